"""The tests of jobs, streams and the gallery over HTTP, as they are, with the jobs in a cluster."""

# pytest collects them here once more, with this folder's servers.
from tests.api.routes.test_generate import *  # noqa: F403
from tests.api.routes.test_images import *  # noqa: F403
from tests.api.routes.test_jobs import *  # noqa: F403
from tests.api.routes.test_refusals import *  # noqa: F403
from tests.api.routes.test_streams import *  # noqa: F403
