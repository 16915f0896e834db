"""The first account of a hub, made in a browser on its own machine: the admin's sign-in leads here until
somebody exists who could sign in."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.sites import AdminSite
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

import registry.web.generics  # noqa: F401  # its classes can be subscripted
from registry.audit import Action, audit

_HERE = ("127.0.0.1", "::1", "localhost", "localhost.", "[::1]")
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


class FirstAccountForm(UserCreationForm[User]):
    """A name and a password, by Django's rules for both."""

    class Meta:
        model = User
        fields = ("username",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "Name"
        self.fields["username"].help_text = "Letters, digits and @ . + - _"
        self.fields[
            "password1"
        ].help_text = "At least 8 characters, and none of the passwords that everybody knows."
        self.fields["password2"].label = "Password again"
        self.fields["password2"].help_text = ""


@never_cache
@csrf_protect
@require_http_methods(["GET", "POST"])
def first(request: HttpRequest) -> HttpResponse:
    """The form, and the account. There is neither elsewhere than at this machine, nor once somebody has an
    account."""
    if not may_make_first(request):
        raise Http404
    form = FirstAccountForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            if User.objects.exists():  # made in another tab meanwhile
                raise Http404
            user = form.save(commit=False)
            user.is_staff = user.is_superuser = True
            user.save()
            audit(Action.ACCOUNT_CREATED, user.get_username(), "the first one, in a browser")
        messages.success(
            request, f"The account {user.get_username()} was created. Sign in with it."
        )
        return redirect("admin:login")
    status = 422 if request.method == "POST" else 200
    return render(request, "hub/first_account.html", {"form": form}, status=status)


def may_make_first(request: HttpRequest) -> bool:
    """Whether this is a browser at the hub's own machine, and nobody has an account."""
    name = request.get_host().rpartition(":")[0] or request.get_host()
    is_here = (
        settings.IS_LOOPBACK
        and (name in _HERE or request.get_host() in _HERE)
        and request.META.get("REMOTE_ADDR", "") in ("127.0.0.1", "::1")
        and not any(header in request.headers for header in _FORWARDED)
    )
    return is_here and not User.objects.exists()


def sign_in(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
    """The admin's sign-in, or the form for the first account."""
    if request.method == "GET" and may_make_first(request):
        return redirect("first_account")
    return AdminSite.login(admin.site, request, extra_context)
