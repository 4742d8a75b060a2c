"""Rules for large mailbox providers, to begin with.

No provider publishes such numbers: how much it takes depends on the address that sends, its history and what people
do with the mails. These are cautious starting points for one server whose address is warmed up and in good standing.
Raise them while mails are taken without 421 and 4xx replies; lower them when those come.
"""

from __future__ import annotations

from app.mail.limits.kinds import Limits

#: Providers of the largest number of mailboxes, who take much from a sender they know.
LARGE = Limits(per_minute=300, per_hour=10_000)
#: Those that soon answer "too many connections" or "temporarily deferred".
STRICT = Limits(per_minute=100, per_hour=3_000)
#: Those that count by the hour or the day and refuse for long.
STRICTEST = Limits(per_minute=30, per_hour=1_000)

DEFAULTS: dict[str, Limits] = {
    **dict.fromkeys(("gmail.com", "googlemail.com"), LARGE),
    **dict.fromkeys(("outlook.com", "hotmail.com", "live.com", "msn.com"), STRICT),
    **dict.fromkeys(("yahoo.com", "ymail.com", "aol.com"), STRICT),
    **dict.fromkeys(("icloud.com", "me.com", "mac.com"), STRICT),
    **dict.fromkeys(("qq.com", "foxmail.com", "163.com", "126.com", "sina.com", "sohu.com"), STRICTEST),
    **dict.fromkeys(("gmx.de", "gmx.net", "web.de", "t-online.de", "freenet.de"), STRICT),
    **dict.fromkeys(("mail.ru", "bk.ru", "list.ru", "yandex.ru", "yandex.com", "rambler.ru"), STRICT),
    **dict.fromkeys(("naver.com", "daum.net"), STRICTEST),
    **dict.fromkeys(("orange.fr", "wanadoo.fr", "free.fr", "laposte.net"), STRICTEST),
}
