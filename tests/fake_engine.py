"""An engine without a model, which answers by a script, with the routes and formats of `transformers serve`.

    python fake_engine.py NAME SOCKET SCRIPT

As `vllm serve` does, it loads adapters, each a folder with a script of its own, and has metrics: the names that it
answers to.

SCRIPT is a JSON file: {"answers": {prompt: answer}, "otherwise": the answer to other prompts, "gate": a file that a
streamed answer waits for after its first word, "raw": whether the answer is the data of a stream, "received", "left":
lists for the bodies of requests and for writes to clients that have left, "hangs": whether it never answers, "kills":
files each of which ends the engine once that loads it as an adapter, "sick": a file that makes health checks fail
while it exists, "dies": an error to exit with instead of starting or loading}.
"""

import json
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any


def server(name: str, socket: str, script: dict[str, Any]) -> ThreadingUnixStreamServer:
    scripts = {name: script}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/metrics":
                return self.reply(200, {"names": list(scripts)})
            sick = "sick" in script and Path(script["sick"]).exists()
            return self.reply(503 if sick else 200, {"status": "unhealthy" if sick else "ok"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/load_lora_adapter":
                return self.load(body["lora_name"], Path(body["lora_path"]))
            if self.path == "/v1/unload_lora_adapter":
                return self.reply(200 if scripts.pop(body["lora_name"], None) else 404, {})
            if (model := body.get("model")) not in scripts:
                return self.reply(400, {"detail": f"pinned to {name}"})
            script = scripts[model]
            script.get("received", []).append(body)
            while script.get("hangs") and not body.get("stream"):
                time.sleep(0.01)
            prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
            if isinstance(prompt, list):
                prompt = "".join(part.get("text", "[image]") for part in prompt)
            answer = script.get("answers", {}).get(prompt, script.get("otherwise", ""))
            if not body.get("stream"):
                message = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
                return self.reply(
                    200, {"id": "1", "object": "chat.completion", "created": 0, "model": model} | {"choices": [message]}
                )
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            while script.get("hangs"):
                self.send_chunk(model, {"index": 0, "delta": {"role": "assistant"}})  # as before anything is generated
                time.sleep(0.1)
            if "raw" in script:
                self.wfile.write(f"data: {answer}\n\n".encode())
                return None
            for word in re.findall(r"\S+\s*", answer):
                self.send_chunk(model, {"index": 0, "delta": {"content": word}})
                while "gate" in script and not Path(script["gate"]).exists():
                    time.sleep(0.01)
            self.send_chunk(model, {"index": 0, "delta": {}, "finish_reason": "stop"})
            return None

        def load(self, adapter: str, folder: Path) -> None:
            own = json.loads((folder / "answers.json").read_text())
            if "dies" in own or adapter in scripts:
                return self.reply(400, {"message": own.get("dies", "loaded already")})
            for deaths in filter(Path.exists, map(Path, own.get("kills", []))):
                deaths.unlink()
                os._exit(1)
            scripts[adapter] = own
            return self.reply(200, {})

        def send_chunk(self, model: str, choice: dict[str, Any]) -> None:
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": [choice]}
            try:
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
            except ConnectionError:
                scripts[model].get("left", []).append(model)

        def reply(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingUnixStreamServer):
        daemon_threads, request_queue_size = True, 128

    return Server(socket, Handler)


if __name__ == "__main__":
    script = json.loads(Path(sys.argv[3]).read_text())
    if "dies" in script:
        sys.exit(script["dies"])
    server(sys.argv[1], sys.argv[2], script).serve_forever(poll_interval=0.02)
