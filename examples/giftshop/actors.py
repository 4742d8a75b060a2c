"""The gift shop's actors, one for each queue. Tries and time-outs are those of its queues.toml."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import dramatiq
from periodiq import cron

from actors.broker import broker
from app.queues.tickets import enqueue, waiting
from examples.giftshop.calls import Rejected, call, send_one_mail
from examples.giftshop.config import url, words
from examples.giftshop.events import announce

FOR_GOOD: dict[str, Any] = {"throws": (Rejected,)}


@dramatiq.actor(queue_name="gift_card_exchange", **FOR_GOOD)
def exchange_gift_card(order: str, card: str, cents: int) -> None:
    """Exchange a gift card into an order's credit; the order's number makes a second call the same one."""
    call("POST", f"{url('GIFTSHOP_API')}/exchanges", {"order": order, "card": card, "cents": cents}, key=order)
    announce("exchanged", order=order, cents=cents)


@dramatiq.actor(queue_name="forecast_crawler", **FOR_GOOD)
def crawl_forecast(product: str) -> None:
    """Fetch the forecast of a product and hand it to the shop."""
    forecast = call("GET", f"{url('GIFTSHOP_FORECASTS')}?{urlencode({'product': product})}")
    call("PUT", f"{url('GIFTSHOP_API')}/forecasts/{quote(product, safe='')}", forecast)


@dramatiq.actor(queue_name="forecast_crawler", periodic=cron("*/15 * * * *"), max_retries=0)
def refresh_forecasts() -> None:
    """Every quarter of an hour: one task for each product."""
    for product in words("GIFTSHOP_PRODUCTS"):
        enqueue(broker, "forecast_crawler", "crawl_forecast", [product])


@dramatiq.actor(queue_name="bill_processing", **FOR_GOOD)
def process_bill(bill: str) -> None:
    call("POST", f"{url('GIFTSHOP_API')}/bills/{quote(bill, safe='')}/process", {}, key=bill)


@dramatiq.actor(queue_name="card_query", **FOR_GOOD)
def query_card(card: str) -> None:
    """Ask for a card's balance and tell it to whoever listens on the WebSocket."""
    found = call("GET", f"{url('GIFTSHOP_API')}/cards/{quote(card, safe='')}")
    announce("balance", card=f"…{card[-4:]}", cents=found["cents"])


@dramatiq.actor(queue_name="wechat-message", **FOR_GOOD)
def send_wechat_message(content: str) -> None:
    """Post to the chat's webhook, in the form that group robots of WeChat Work take."""
    call("POST", url("GIFTSHOP_CHAT_WEBHOOK"), {"msgtype": "text", "text": {"content": content}})


@dramatiq.actor(queue_name="mail", **FOR_GOOD)
def send_mail(to: str, subject: str, content: str, number: str) -> None:
    """Send one mail; `number` makes its Message-ID, so that a repeated one is recognisable."""
    send_one_mail(to, subject, content, number)


@dramatiq.actor(queue_name="high", **FOR_GOOD)
def confirm_order(order: str) -> None:
    call("POST", f"{url('GIFTSHOP_API')}/orders/{quote(order, safe='')}/confirm", {}, key=order)


@dramatiq.actor(queue_name="default", **FOR_GOOD)
def archive_order(order: str) -> None:
    call("POST", f"{url('GIFTSHOP_API')}/orders/{quote(order, safe='')}/archive", {}, key=order)


@dramatiq.actor(queue_name="default", periodic=cron("0 7 * * *"), max_retries=0)
def report_backlog() -> None:
    """Every morning: tell the chat what waits."""
    queues = sorted({actor.queue_name for actor in broker.actors.values()})
    lines = [f"{queue}: {waiting(broker, queue)}" for queue in queues]
    enqueue(broker, "wechat-message", "send_wechat_message", ["\n".join(["Waiting this morning", *lines])])
