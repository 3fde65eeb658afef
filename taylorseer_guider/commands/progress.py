"""A bar over all pictures of a command, whichever process makes them."""

from contextlib import suppress
from threading import Event, Thread

from tqdm import tqdm

EVERY = 1.0  # seconds


class Progress:
    """Counts records as they come to be in ``folder``, in pixels, so that the time left knows large ones from small ones.

    ``failed`` holds (name, what went wrong) of those that will have none. One task alone gets no bar.
    """

    def __init__(self, todo, folder, failed):
        self.pixels, self.folder, self.failed = {task.name: task.pixels for task in todo}, folder, failed
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
        self.bar = tqdm(total=sum(self.pixels.values()), bar_format=form, disable=len(todo) < 2)
        self.before = self.records()
        self.stop, self.thread = Event(), Thread(target=self.watch, daemon=True)

    def watch(self):
        while not self.stop.wait(EVERY):
            self.look()

    def records(self):
        """{name: when it was written} of the tasks' records that are there."""
        found = {}
        for name in self.pixels:
            with suppress(OSError):
                found[name] = (self.folder / f"{name}.json").stat().st_mtime_ns
        return found

    def look(self):
        records = {name for name, written in self.records().items() if self.before.get(name) != written}
        done = self.pixels.keys() & (records | {name for name, _ in self.failed})
        self.bar.set_description_str(f"{len(done)} of {len(self.pixels)} pictures", refresh=False)
        self.bar.update(sum(self.pixels[name] for name in done) - self.bar.n)

    def __enter__(self):
        if not self.bar.disable:
            self.look()
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        if not self.bar.disable:
            self.thread.join()
            self.look()
        self.bar.close()
