"""A failed run is told of: in the sensor's log, and to a webhook if one is set."""

import dagster as dg

from resources.webhook import WebhookResource


def build_failure_sensor() -> dg.SensorDefinition:
    """`run_failed`: for every failed run of this code location one message, saying what failed and why."""

    @dg.run_failure_sensor(
        name="run_failed",
        minimum_interval_seconds=30,
        description="Tells of every failed run: here, and at LAKEHOUSE_WEBHOOK_URL if that is set.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def run_failed(context: dg.RunFailureSensorContext, webhook: WebhookResource) -> None:
        run = context.dagster_run
        message = failure_message(run, reason_of(context))
        context.log.error(message)
        webhook.tell(
            {
                "text": message,
                "job": run.job_name,
                "campaign": run.tags.get("campaign", ""),
                "run_id": run.run_id,
            }
        )

    return run_failed


def failure_message(run: dg.DagsterRun, reason: str) -> str:
    """One paragraph: which job, which run, why, and what to do."""
    return (
        f"{run.job_name} failed: {reason} (run {run.run_id[:8]}). What was done is kept; start the job again "
        "when the cause is gone, and it goes on from there."
    )


def reason_of(context: dg.RunFailureSensorContext) -> str:
    """The sentence that the first failed step ended with, else what the run itself says."""
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return data.user_failure_data.description
        error = data.error
        while error and error.cause:
            error = error.cause
        if error:
            return error.message.strip().splitlines()[0][:500]
    return (context.failure_event.message or "no reason given").strip()[:500]
