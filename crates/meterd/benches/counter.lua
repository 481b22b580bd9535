-- What wrk posts: sessions of sixteen applications.
local n = 0
request = function()
  n = (n + 1) % 16
  return wrk.format("POST", "/counter", { ["Content-Type"] = "application/json" },
    '{"app":"app' .. n .. '","node":0,"timestamp":1660054277326}')
end
