"""When things are made: a new dump is noticed, each phase hands over to the next, and a monthly schedule
is the backstop."""

from sensors.refresh import CampaignAutomation, build_automation

__all__ = ["CampaignAutomation", "build_automation"]
