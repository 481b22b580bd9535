"""A connection to a server that speaks RESP2, for the scripts beside it."""

import socket


def packed(command):
    """A command on the wire, from its words, or from a line that is split at blanks."""
    words = [str(word).encode() for word in (command.split() if isinstance(command, str) else command)]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def call(self, command):
        """The reply to a command; RuntimeError if that is an error."""
        self.socket.sendall(packed(command))
        return self.reply()

    def run(self, commands):
        """Sends them in batches; the replies are read, and dropped."""
        batch = []
        for command in commands:
            batch.append(packed(command))
            if len(batch) == 500:
                self.send(batch)
                batch = []
        self.send(batch)

    def send(self, batch):
        self.socket.sendall(b"".join(batch))
        for _ in batch:
            self.reply()

    def reply(self):
        line = self.file.readline().rstrip()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2].decode()
        return [self.reply() for _ in range(int(rest))]

    def info(self, section):
        lines = self.call(["INFO", section]).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def name(self):
        """The server's product and version."""
        info = self.info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
