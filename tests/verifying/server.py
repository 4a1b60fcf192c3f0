"""A latchkey server as a process of its own, what is asked of it over HTTP, and verifiers that are asked over stdin."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

LATCHKEY = os.environ["LATCHKEY"]
PASSWORD = "correct horse battery staple"
SETTINGS = ("--scrypt ln=1,r=8,p=1 --allow-common-passwords --login-limit off --register-limit off --failure-limit off "
            "--header-timeout 1h --body-timeout 1h --request-timeout 1h --idle-timeout 1h").split()

# So that `finally` ends what was started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    def __init__(self, folder, public_url=None):
        self.data, self.log, self.process, self.local = f"{folder}/data", f"{folder}/log", None, threading.local()
        os.makedirs(folder)
        self.port = free_port()
        self.url = public_url or f"http://127.0.0.1:{self.port}"

    def start(self, *more, public_url=None, audience="billing", **environment):
        command = [LATCHKEY, *SETTINGS, "--listen", f"127.0.0.1:{self.port}", "--data-dir", self.data,
                   "--public-url", public_url or self.url, "--audience", audience, *more]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        for _ in range(30_000):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                assert self.process.poll() is None, open(self.log).read()
                time.sleep(0.01)
        raise AssertionError("the server did not start")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def cli(self, *arguments, stdin=""):
        done = subprocess.run([LATCHKEY, *arguments, "--data-dir", self.data, "--scrypt", "ln=1,r=8,p=1"], input=stdin,
                              capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def call(self, method, path, token=None, **fields):
        """Returns status and body, over the connection of this thread."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | ({"Authorization": f"Bearer {token}"} if token else {})
        for attempt in 1, 2:  # the server may have been restarted since
            try:
                if not hasattr(self.local, "connection"):
                    self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port)
                self.local.connection.request(method, path, urllib.parse.urlencode(fields) if fields else None, headers)
                answer = self.local.connection.getresponse()
                text = answer.read()
                return answer.status, json.loads(text) if text else {}
            except (OSError, http.client.HTTPException):
                del self.local.connection
                assert attempt == 1, "the server does not answer"

    def token(self, email, how="login"):
        status, body = self.call("POST", f"/api/v1/auth/{how}", email=email, password=PASSWORD)
        assert status in (200, 201), body
        return body["access_token"]


class Verifier:
    """A process that reads tokens and answers each with a line."""

    def __init__(self, name, command, **environment):
        self.name, self.lock = name, threading.Lock()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
                                        env={**os.environ, **environment})

    def __call__(self, token):
        """Returns what it says of the token."""
        with self.lock:
            self.process.stdin.write(token + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().strip()
        assert answer, f"{self.name} has ended"
        return answer

    def stop(self):
        self.process.terminate()
        self.process.wait()
