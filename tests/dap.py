"""An editor's half of the Debug Adapter Protocol, as far as tests go: attach, stop, look, go on."""

import json
import socket
import threading


class Dap:
    """A client of the debugger at `host:port`; use it in a `with` block."""

    def __init__(self, address, seconds=30):
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=seconds)
        self._stream = self._socket.makefile("rwb")
        self._seconds = seconds
        self._number = 0
        self._came = threading.Condition()
        self._messages = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None and not any(each.get("event") == "terminated" for each in self._messages):
            self.ask("disconnect", terminateDebuggee=False)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._stream.close()
        self._socket.close()

    def attach(self, file, line, mappings=()):
        """Attach, with a breakpoint in a file of the editor's."""
        self.ask("initialize", adapterID="modelport", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
        attaching = self._send("attach", pathMappings=list(mappings), justMyCode=True)
        self.event("initialized")
        source = {"path": str(file)}
        (point,) = self.ask("setBreakpoints", source=source, breakpoints=[{"line": line}])["breakpoints"]
        assert point["verified"], point
        self.ask("configurationDone")
        self._answer(attaching)

    def stopped(self):
        """Wait until a thread stands at the breakpoint: the thread, and its place as the editor shows it."""
        thread = self.event("stopped")["threadId"]
        frame = self.ask("stackTrace", threadId=thread)["stackFrames"][0]
        return thread, frame

    def variables(self, frame):
        """Local variables, by name, as they are shown."""
        scopes = self.ask("scopes", frameId=frame["id"])["scopes"]
        place = next(each for each in scopes if each["name"] == "Locals")["variablesReference"]
        return {each["name"]: each["value"] for each in self.ask("variables", variablesReference=place)["variables"]}

    def go_on(self, thread):
        self.ask("continue", threadId=thread)

    def ask(self, command, **arguments):
        """The body of the answer."""
        return self._answer(self._send(command, **arguments))

    def event(self, name):
        """Wait for an event, and take it: its body."""
        return self._take(lambda each: each.get("event") == name)["body"]

    def _send(self, command, **arguments):
        self._number += 1
        said = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        content = json.dumps(said).encode()
        self._stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
        self._stream.flush()
        return self._number

    def _answer(self, number):
        answer = self._take(lambda each: each.get("request_seq") == number)
        assert answer["success"], answer
        return answer.get("body") or {}

    def _take(self, wanted):
        with self._came:
            assert self._came.wait_for(lambda: any(map(wanted, self._messages)), self._seconds), self._messages
            found = next(filter(wanted, self._messages))
            self._messages.remove(found)
            return {"body": {}, **found}

    def _read(self):
        while (message := self._message()) is not None:
            with self._came:
                self._messages.append(message)
                self._came.notify_all()

    def _message(self):
        length = None
        try:
            while (line := self._stream.readline().strip()) or length is None:
                if not line:
                    return None
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            return json.loads(self._stream.read(length))
        except (OSError, ValueError):
            return None
