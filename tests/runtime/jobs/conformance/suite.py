"""The tests that every broker passes unchanged: a class derives from `BrokerConformance`, and has
fixtures `opened`, an `Opener`, and `gallery`, the files of its pictures.
"""

from tests.runtime.jobs.conformance.following import Following
from tests.runtime.jobs.conformance.gallery import GalleryOfPictures
from tests.runtime.jobs.conformance.leasing import Leasing
from tests.runtime.jobs.conformance.queueing import Queueing
from tests.runtime.jobs.conformance.restarting import Restarting
from tests.runtime.jobs.conformance.working import Working


class BrokerConformance(Queueing, Leasing, Following, GalleryOfPictures, Restarting, Working):
    """All of them."""
