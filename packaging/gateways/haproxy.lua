-- Asks meterd, by "listen meterd" of haproxy.cfg, whether a request passes, and notes what is left. txn.check is then
-- passed, limited or unknown.
local url = "http://127.0.0.1:8001/check/edge?api_key={x-api-key}"

core.register_action("check", { "http-req" }, function(txn)
    local key = txn.http:req_get_headers()["x-api-key"]
    local response = core.httpclient():get({
        url = url,
        headers = { ["x-api-key"] = { key and key[0] or "" } },
    })
    local passed = { [200] = "passed", [429] = "limited" }
    txn:set_var("txn.check", passed[response.status] or "unknown")
    for name, values in pairs(response.headers or {}) do
        local variable = ({
            ["ratelimit"] = "txn.ratelimit",
            ["ratelimit-policy"] = "txn.ratelimit_policy",
            ["retry-after"] = "txn.retry_after",
        })[name]
        if variable then
            txn:set_var(variable, values[0])
        end
    end
end)
