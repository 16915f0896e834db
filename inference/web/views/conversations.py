"""Conversations that were kept: found again, renamed and deleted."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from inference.models import Conversation
from inference.web.forms import TitleForm
from registry.web.htmx import HtmxRequest, partial

PER_PAGE = 20


@require_GET
def conversations(request: HtmxRequest) -> HttpResponse:
    q = request.GET.get("q", "").strip()
    page = Paginator(Conversation.objects.titled(q), PER_PAGE).get_page(request.GET.get("page"))
    template = partial(request, "inference/conversations.html", "rows")
    return render(request, template, {"page": page, "q": q})


@require_POST
def conversation_rename(request: HtmxRequest, pk: int) -> HttpResponse:
    conversation = get_object_or_404(Conversation, pk=pk)
    form = TitleForm(request.POST)
    if form.is_valid():
        conversation.rename(form.cleaned_data["title"])
    return redirect("conversations")


@require_POST
def conversation_delete(request: HtmxRequest, pk: int) -> HttpResponse:
    get_object_or_404(Conversation, pk=pk).delete()
    return redirect("conversations")
