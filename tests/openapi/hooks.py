"""What schemathesis cannot know: who is asking, and texts of our own formats.

PERSONA is anonymous, user, admin or service. A user and an administrator are new for each request, because requests log out, delete
and disable whom they reach.
"""

import base64
import datetime
import functools
import itertools
import json
import os
import subprocess

import requests
import schemathesis
from hypothesis import strategies as st

BASE = os.environ["BASE"]
PERSONA = os.environ["PERSONA"]
PASSWORD = "correct-horse-battery"  # that of the examples
NUMBERS = itertools.count()

# A year of two digits is one of this century.
dates = st.dates(datetime.date.today() + datetime.timedelta(days=1), datetime.date(2099, 12, 31))
spellings = st.sampled_from(["%Y-%m-%d", "%Y-%m-%dT12:00:00Z", "%m/%d/%Y", "%b %d %Y", "%B %d, %Y", "%d %b %Y"])
hosts = st.from_regex(r"[a-z]{1,20}(\.[a-z]{2,10})?(:[1-9][0-9]{0,3})?", fullmatch=True)
paths = st.from_regex(r"(/[A-Za-z0-9._~-]{0,20}){0,5}(\?[a-z=&]{0,20})?(#[a-z]{0,10})?", fullmatch=True)
local_parts = st.from_regex(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}", fullmatch=True)
domains = st.from_regex(r"([a-z0-9]{1,20}\.){1,3}[a-z]{2,10}", fullmatch=True)

schemathesis.openapi.format("deadline", st.builds(lambda date, form: date.strftime(form), dates, spellings))
durations = st.builds("{}{}".format, st.integers(1, 365), st.sampled_from(["s", "m", "h", "d"]))
schemathesis.openapi.format("keep_old", durations)
schemathesis.openapi.format("uri", st.builds("{}://{}{}".format, st.sampled_from(["http", "https"]), hosts, paths))
schemathesis.openapi.format("email", st.builds("{}@{}".format, local_parts, domains))


@schemathesis.hook
def before_load_schema(context, schema):
    """The document has patterns for deadlines and durations, which also take days that do not exist or are past, or too long times."""
    for name in ["NewWidget", "WidgetChange"]:
        for kind in ["", "Form"]:
            schema["components"]["schemas"][name + kind]["properties"]["deadline"]["format"] = "deadline"
    for kind in ["", "Form"]:
        schema["components"]["schemas"]["SecretRotation" + kind]["properties"]["keep_old"]["format"] = "keep_old"


def token(operation, email):
    body = {"email": email, "password": PASSWORD}
    answer = requests.post(f"{BASE}/auth/{operation}", json=body, timeout=30)
    answer.raise_for_status()
    return answer.json()["access_token"]


@functools.cache
def service():
    """A service stays: no request of a service reaches another one."""
    add = [os.environ["LATCHKEY"], "service", "add", "persona", "--json"]
    added = json.loads(subprocess.run(add, check=True, capture_output=True).stdout)
    return base64.b64encode(f"{added['id']}:{added['secret']}".encode()).decode()


class Persona:
    def get(self, case, context):
        if PERSONA == "service":
            return f"Basic {service()}"
        email = f"{PERSONA}-{os.getpid()}-{next(NUMBERS)}@example.com"
        if PERSONA == "user":
            return f"Bearer {token('register', email)}"
        add = [os.environ["LATCHKEY"], "user", "add", email, "--admin", "--password-stdin"]
        subprocess.run(add, input=PASSWORD.encode(), check=True, capture_output=True)
        return f"Bearer {token('login', email)}"

    def set(self, case, credentials, context):
        case.headers["Authorization"] = credentials


@schemathesis.hook.apply_to(operation_id=["change_password", "delete_account"])
def map_body(context, body):
    """Another text than the password is refused for what it says, which no schema can tell."""
    for field in ["current_password", "password"]:
        if isinstance(body, dict) and isinstance(body.get(field), str):
            body[field] = PASSWORD
    return body


if PERSONA != "anonymous":
    schemathesis.auth(refresh_interval=None)(Persona)
