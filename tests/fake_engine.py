"""An engine without a model: it answers what a file tells it to, in the routes and forms of `transformers serve`.

    python fake_engine.py NAME PORT FILE

FILE is JSON: {"answers": {prompt: answer}, "otherwise": answer to other prompts, "gate": a file that a streamed answer
waits for after its first word, "sick": a file, with which it says that it is not well, "dies": what it says instead of
starting}.
"""

import json
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def server(name: str, port: int, told: dict[str, Any]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            sick = "sick" in told and Path(told["sick"]).exists()
            self.reply(503 if sick else 200, {"status": "unhealthy" if sick else "ok"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body.get("model") != name:
                return self.reply(400, {"detail": f"pinned to {name}"})
            said = told.get("answers", {}).get(body["messages"][-1]["content"], told.get("otherwise", ""))
            if not body.get("stream"):
                message = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
                return self.reply(
                    200, {"id": "1", "object": "chat.completion", "created": 0, "model": name} | {"choices": [message]}
                )
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for word in said.split():
                self.say({"index": 0, "delta": {"content": word + " "}})
                while "gate" in told and not Path(told["gate"]).exists():
                    time.sleep(0.01)
            self.say({"index": 0, "delta": {}, "finish_reason": "stop"})
            return None

        def say(self, choice: dict[str, Any]) -> None:
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": name, "choices": [choice]}
            with suppress(ConnectionError):  # nobody reads it any more
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()

        def reply(self, status: int, content: dict[str, Any]) -> None:
            written = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    made.daemon_threads = True
    return made


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[3]).read_text())
    if "dies" in told:
        sys.exit(told["dies"])
    server(sys.argv[1], int(sys.argv[2]), told).serve_forever(poll_interval=0.02)
