"""Why the Hub refuses a request, in the words that its clients act on.

Clients choose their exception from the status and two headers, never from the body: a HEAD has none.
"""

# The client takes any other 401 for a repository that does not exist.
BAD_TOKEN = "Invalid credentials in Authorization header"


class RefusedError(Exception):
    """A request that can not be granted; `code` is the `X-Error-Code` that selects the client's exception."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, extra: dict[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.extra = extra or {}
        self.headers: dict[str, str] = {}


def malformed(message: str) -> RefusedError:
    return RefusedError(400, message)


def repo_not_found(*, stranger: bool = False) -> RefusedError:
    """Said of private repositories too, so that nobody else learns that they exist. To a stranger, a token may help."""
    return RefusedError(401 if stranger else 404, "Repository not found", code="RepoNotFound")


def gated(message: str, *, stranger: bool) -> RefusedError:
    """For the files of a repository that everybody sees. To a stranger, a token may help."""
    return RefusedError(401 if stranger else 403, message, code="GatedRepo")


def revision_not_found(revision: str) -> RefusedError:
    return RefusedError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def entry_not_found(message: str, commit_id: str | None = None) -> RefusedError:
    """With `commit_id`, clients remember that this commit lacks the file and do not ask again."""
    refused = RefusedError(404, message, code="EntryNotFound")
    if commit_id is not None:
        refused.headers["X-Repo-Commit"] = commit_id
    return refused
