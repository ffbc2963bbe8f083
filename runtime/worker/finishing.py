"""From a picture's last step to its files: decoded on one thread, encoded and written on others.

A picture is decoded while the one before it is encoded and written. Its recipe is put into words
while it is decoded, and its thumbnail is made and written while the picture itself is encoded.
Interactive pictures and those of batch priority have lanes of their own: the decoder takes the
former first, and none of them waits until one of the latter is written.
"""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from functools import partial

from runtime.backends.protocol import Reading
from runtime.draw.decode import Pixels
from runtime.draw.infotext import Infotext, infotext
from runtime.draw.preview import thumbnail
from runtime.draw.recipe import EXTENSIONS, encode_picture
from runtime.draw.soundness import blackness, check_finite
from runtime.gallery import Gallery, picture_name
from runtime.plan.plan import Plan
from runtime.wire.messages import Canceled, Completed
from runtime.worker.decoder import DecoderThread, Lane
from runtime.worker.task import Task
from runtime.worker.watch import Watch

DECODED_AHEAD = 2
"""The most pictures that are decoded and not written yet; further ones wait as latents."""

Report = Callable[[Task, Completed | Canceled | Exception], None]
"""Takes a task's end: its picture is whole on disk, or it was canceled, or cannot be made."""


class Writers:
    """The threads that encode and write the pictures of a lane of the decoder."""

    def __init__(self, name: str) -> None:
        """The threads have the `name` in theirs."""
        self.lane = Lane(DECODED_AHEAD)
        self.pictures = ThreadPoolExecutor(1, f"{name} writer")
        self.thumbnails = ThreadPoolExecutor(1, f"{name} thumbnails")


class Finishing:
    """Finishes pictures: interactive ones first, and else in the order of their coming."""

    def __init__(
        self,
        gallery: Gallery,
        watch: Watch,
        begun: Callable[[Task], None],
        ended: Report,
    ) -> None:
        """`begun` is called when a picture's turn to be decoded has come, `ended` at its end; both
        in threads of this object.
        """
        self._gallery = gallery
        self._watch = watch
        self._begun = begun
        self._ended = ended
        self._interactive, self._batch = Writers("interactive"), Writers("batch")
        self._decoder = DecoderThread([self._interactive.lane, self._batch.lane])

    def begin(self, task: Task, plan: Plan, latents: Reading) -> None:
        """Finish a picture, whose `latents` may still be on their way."""
        writers = self._writers(task)
        pixels = self._decoder.submit(writers.lane, partial(self._decode, task, latents))
        written = writers.pictures.submit(self._finish, task, plan, pixels)
        written.add_done_callback(lambda _: self._decoder.taken(writers.lane))

    def close(self) -> None:
        """Finish the pictures that are being written, one of either priority, and no other."""
        self._decoder.cancel()
        for writers in (self._interactive, self._batch):
            writers.pictures.shutdown(cancel_futures=True)
            writers.thumbnails.shutdown(cancel_futures=True)
        self._decoder.join()

    def _writers(self, task: Task) -> Writers:
        return self._interactive if task.urgent else self._batch

    def _decode(self, task: Task, latents: Reading) -> Pixels:
        self._begun(task)
        with self._watch.stage("decoding", task.job_id, task.pixels):
            finished = latents()
            check_finite(finished)
            return task.generator.decode(finished)

    def _finish(self, task: Task, plan: Plan, pixels: Future[Pixels]) -> None:
        try:
            done = self._picture(task, plan, pixels)
        except CancelledError:
            return  # The process is asked to exit, and the server gives the job to another.
        except Exception as error:
            self._ended(task, error)
        else:
            self._ended(task, done)

    def _picture(self, task: Task, plan: Plan, decoded: Future[Pixels]) -> Completed | Canceled:
        request, model = plan.request, task.generator.model
        text = infotext(plan, model.manifest, model.facts)
        filename = picture_name(task.job_id, EXTENSIONS[request.output_format])
        pixels = decoded.result()
        with self._watch.stage("saving the picture", task.job_id, task.pixels):
            return self._saved(task, plan, pixels, text, filename)

    def _saved(
        self, task: Task, plan: Plan, pixels: Pixels, text: Infotext, filename: str
    ) -> Completed | Canceled:
        request = plan.request
        small = self._writers(task).thumbnails.submit(self._thumbnail, filename, pixels)
        try:
            picture = encode_picture(pixels, request, text)
            if not task.canceled:
                self._gallery.add_picture(filename, picture.content)
            small.result()
        except Exception:
            self._remove(filename, small)
            raise
        if task.canceled:
            self._remove(filename, small)
            return Canceled(task.job_id)
        height, width = pixels.shape[:2]
        said = (task.generator.tiled(request), picture.warning, blackness(pixels))
        warnings = list(filter(None, said))
        size = len(picture.content)
        return Completed(task.job_id, filename, width, height, size, warnings)

    def _remove(self, filename: str, small: Future[None]) -> None:
        """Delete the files of a picture that is not to be; its thumbnail may be under way."""
        wait([small])
        self._gallery.remove(filename)

    def _thumbnail(self, filename: str, pixels: Pixels) -> None:
        self._gallery.add_thumbnail(filename, thumbnail(pixels))
