"""What Schemathesis cannot tell from the document alone."""

import schemathesis


@schemathesis.check
def refused_only_as_taken(ctx, response, case):
    """A pessoa that keeps every rule is refused for one reason: somebody has its apelido."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 422:
        return
    detail = response.json()["detail"]
    assert detail == "`apelido`: expected one that no other pessoa has", detail
