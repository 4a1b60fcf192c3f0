"""A client that openapi-python-client generated calls the server at BASE; ADMIN is an administrator there."""

import os

from latchkey_client import AuthenticatedClient, Client
from latchkey_client.api.auth import delete_account, log_in, register
from latchkey_client.api.widgets import create_widget, delete_widget, get_widget, list_widgets
from latchkey_client.models import (
    Confirmation,
    Credentials,
    Failure,
    ListWidgetsPerPage,
    NewWidget,
    NewWidgetForm,
    PageOfWidget,
    Registration,
    Success,
    Token,
    Widget,
    WidgetOwner,
)

BASE = os.environ["BASE"]
ADMIN = os.environ["ADMIN"]
USER = "python@example.com"
PASSWORD = "correct horse battery staple"
NAMES = [f"python-{number}" for number in range(6)]

stranger = Client(base_url=BASE)


def logged_in(email: str) -> AuthenticatedClient:
    token = log_in.sync(client=stranger, body=Credentials(email, PASSWORD))
    assert isinstance(token, Token), token
    return AuthenticatedClient(base_url=BASE, token=token.access_token)


registered = register.sync(client=stranger, body=Registration(USER, PASSWORD))
assert isinstance(registered, Token), registered
user, admin = logged_in(USER), logged_in(ADMIN)

for number, name in enumerate(NAMES):
    kind = NewWidget if number % 2 else NewWidgetForm  # as JSON and as a form
    added = create_widget.sync(client=admin, body=kind(name, "https://example.com", "2999-01-01"))
    assert isinstance(added, Success), added

widgets: list[Widget] = []
page: PageOfWidget | Failure | None
number = 1
while True:
    page = list_widgets.sync(client=user, page=number, per_page=ListWidgetsPerPage.VALUE_5)
    assert isinstance(page, PageOfWidget), page
    widgets += page.items
    if not page.has_next:
        break
    number += 1
assert [widget.name for widget in widgets] == NAMES and number == 2, widgets
assert all(isinstance(widget.owner, WidgetOwner) and widget.owner.email == ADMIN for widget in widgets), widgets

for name in NAMES:
    assert delete_widget.sync_detailed(name, client=admin).status_code == 204
assert isinstance(get_widget.sync(NAMES[0], client=user), Failure)
assert delete_account.sync_detailed(client=user, body=Confirmation(PASSWORD)).status_code == 204
assert isinstance(log_in.sync(client=stranger, body=Credentials(USER, PASSWORD)), Failure)
