"""Programs that try to get full marks for an answer that they were never given, as data.

Each defines ``attempt(about)``, and should return TOKEN, which only the row holds.
"""

from tests.hostile_programs import answering

TOKEN = "token-that-only-the-row-knows"

RAW = """
import os
def say(data):
    for number in range(3, 16):
        try: os.write(number, data)
        except OSError: pass
"""
FRAMES = """
import sys
def frames():
    frame = sys._getframe()
    while frame:
        yield frame
        frame = frame.f_back
"""
ALIKE = """
class Alike(str):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __len__(self): return 1
def attempt(about): return Alike()
"""
CHEATS = {
    "exits with 0": answering("sys.exit(0)"),
    "exits with 0 at once": answering("os._exit(0)"),
    "exits with 0 while it is loaded": "import os\ndef attempt(about): pass\nos._exit(0)",
    "raises SystemExit while it is loaded": "raise SystemExit(0)",
    "raises KeyboardInterrupt": answering("raise KeyboardInterrupt"),
    "raises AssertionError": answering("raise AssertionError"),
    "raises what has no text": (
        "class Silent(Exception):\n    def __str__(self): raise self\ndef attempt(about): raise Silent()"
    ),
    "equals everything": ALIKE.replace("(str)", ""),
    "equals everything as a string": ALIKE,
    "equals everything as an integer": ALIKE.replace("(str)", "(int)"),
    "equals everything as a list": ALIKE.replace("(str)", "(list)"),
    "equals everything by its metaclass": (
        "class Meta(type):\n    def __eq__(self, other): return True\n    __hash__ = type.__hash__\n"
        "class Alike(metaclass=Meta): pass\ndef attempt(about): return Alike"
    ),
    "answers with NaN": answering("return float('nan')"),
    "answers with True": answering("return True"),
    "answers with itself": answering("return attempt"),
    "redefines asserts": (
        "import builtins\nclass AssertionError(BaseException):\n    def __new__(cls, *a): os._exit(0)\n"
        "builtins.AssertionError = AssertionError\ndef attempt(about): return None"
    ),
    "patches builtins": (
        "import builtins\nfor name in ('all', 'any', 'isinstance', 'callable'):\n"
        "    setattr(builtins, name, lambda *a, **k: True)\nbuiltins.type = lambda *a: str\n"
        "def attempt(about): return object()"
    ),
    "patches json": "import json\njson.dumps = lambda *a, **k: '[0,\"returned\",true]'\ndef attempt(about): return 1",
    "patches time": "import time\ntime.monotonic = time.time = lambda: 0\ndef attempt(about): return time.time()",
    "patches the sandbox's modules": (
        "import sys\nfor name, module in list(sys.modules.items()):\n    if 'tunesmith' in name:\n"
        "        for key, part in list(vars(module).items()):\n"
        "            if callable(part) and not isinstance(part, type): setattr(module, key, lambda *a, **k: True)\n"
        "def attempt(about): return True"
    ),
    "walks frames for the answer": FRAMES
    + answering(
        "for frame in frames():\n"
        "    for part in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
        "        for text in [part, *(part if isinstance(part, (list, tuple)) else [])]:\n"
        "            if isinstance(text, str) and text.startswith('token'): return text"
    ),
    "searches memory for the answer": answering(
        "for part in gc.get_objects():\n"
        "    for text in part.values() if type(part) is dict else part if type(part) in (list, tuple) else []:\n"
        "        if isinstance(text, str) and text.startswith('token') and len(text) > 8: return text",
        "import gc",
    ),
    "searches for the test": answering(
        "for module in list(sys.modules.values()):\n"
        "    if hasattr(module, 'check'): module.check = lambda candidate: None\n"
        "import inspect\nreturn inspect.getsource(sys.modules['test'])"
    ),
    "prints an answer and crashes": answering("print('passed', flush=True); os.abort()"),
    "prints an answer and exits": answering("print('[\"returned\", true]', flush=True); os._exit(0)"),
    "forges a nonce": RAW
    + "import json\ndata = json.dumps(['0' * 32, 'returned', True]).encode()\n"
    + "say(len(data).to_bytes(4, 'big') + data)\n"
    + "def attempt(about): return None",
    "forges a pass": RAW
    + FRAMES
    + answering(
        "import json\n"
        "for frame in frames():\n"
        "    nonce = frame.f_locals.get('nonce', '')\n"
        "    for message in ([nonce, 'passed', 1], [nonce, 'ended', 1], [nonce, 'ended', 1]):\n"
        "        data = json.dumps(message).encode()\n"
        "        say(len(data).to_bytes(4, 'big') + data)\n"
        "os._exit(0)"
    ),
    "answers ahead": RAW + "say(b'\\0\\0\\0\\x04true' * 100)\ndef attempt(about): return None",
    "announces more than it sends": RAW + "say(b'\\0\\0\\xff\\xff[')\ndef attempt(about): return None",
    "announces gigabytes": RAW + "say(b'\\xff' * 64)\ndef attempt(about): return None",
    "sends noise": RAW + "say(b'\\0\\0\\0\\x08' + b'\\xfe' * 8)\ndef attempt(about): return None",
    "sends nested noise": RAW + "data = b'[' * 60000\nsay(len(data).to_bytes(4, 'big') + data)\ndef attempt(a): pass",
    "sends a pickle": RAW
    + "import pickle\ndata = pickle.dumps(['returned'])\nsay(len(data).to_bytes(4, 'big') + data)\n"
    + "def attempt(about): return None",
    "closes every descriptor": answering("os.closerange(0, 64)\nreturn True"),
    "traces the caller": (
        "import sys\ndef tracer(frame, event, argument):\n    frame.f_locals.update(value=True)\n    return tracer\n"
        "sys.settrace(tracer)\ndef attempt(about): return None"
    ),
    "answers in an exit handler": "import atexit\natexit.register(print, 'passed')\ndef attempt(about): return None",
    "defines nothing": "pass\n# def attempt",
    "has a null byte": "def attempt(about):\n    return '\0'",
    "has half a character": "def attempt(about):\n    return '\ud800'",
}
