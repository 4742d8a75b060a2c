"""A campaign's message, compiled once per process: what was scheduled does not change any more."""

from __future__ import annotations

from app.campaigns.mails import Mail
from app.mail.address import parse_sender
from app.mail.message import Compiled
from app.models.tables import Campaign


class Letter:
    """What is the same for every mail of a campaign. Raises TemplateProblem when it cannot be compiled."""

    def __init__(self, campaign: Campaign) -> None:
        name, address = parse_sender(campaign.sender)
        self.envelope_sender = campaign.envelope_sender
        self._compiled = Compiled(
            subject=campaign.subject,
            sender_name=name,
            sender_email=address.email,
            html=campaign.html,
            text=campaign.text,
            message_id_domain=address.email.rpartition("@")[2],
            campaign_id=campaign.id,
            message_key=campaign.message_key,
        )

    def compose(self, mail: Mail) -> bytes:
        """The whole message for one recipient; raises TemplateProblem."""
        return self._compiled.render(
            subscriber_id=mail.subscriber_id, email=mail.email, name=mail.name, attributes=mail.attributes
        )

    def message_id(self, subscriber_id: int) -> str:
        """The same whenever the same mail is sent."""
        return self._compiled.message_id(subscriber_id)
