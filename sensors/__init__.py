"""When things are made: a new dump or an edited campaign is noticed, each phase hands over to the next, what
is there is looked after, and a monthly schedule is the backstop."""

from sensors.automation import CampaignAutomation, build_automation
from sensors.failures import build_failure_sensor
from sensors.removals import build_removal_sensor

__all__ = ["CampaignAutomation", "build_automation", "build_failure_sensor", "build_removal_sensor"]
