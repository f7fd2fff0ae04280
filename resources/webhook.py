"""The place where failed runs are told of."""

import logging
from typing import Any

import dagster as dg

from lakehouse.settings import load_settings

_TIMEOUT = 10.0


class WebhookResource(dg.ConfigurableResource[Any]):
    """Posts JSON to LAKEHOUSE_WEBHOOK_URL. The address is a secret, so it stays in the environment and enters
    no run's configuration, log or error."""

    def tell(self, message: dict[str, str]) -> bool:
        """Post `message`; whether somebody took it. A webhook that fails is logged, and is no failure of what
        it was to tell of; without one nothing is done."""
        import httpx  # takes a while to import, and is needed when something failed

        # It would log the address of every request.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        url = load_settings().webhook_url
        if url is None:
            return False
        try:
            answer = httpx.post(url.get_secret_value(), json=message, timeout=_TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The error's text may hold the address.
            logging.getLogger(__name__).warning("the webhook was not reached (%s)", type(error).__name__)
            return False
        if not answer.is_success:
            logging.getLogger(__name__).warning("the webhook answered %s", answer.status_code)
        return answer.is_success
