"""The names of what is logged."""


def log_key(stage: str, member: str, metric: str) -> str:
    """`train/loss`, or `train/NAME/loss` for a member of an ensemble; a module alone has the member name ''."""
    return "/".join(part for part in (stage, member, metric) if part)
