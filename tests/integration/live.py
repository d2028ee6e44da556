"""A pipeline that runs while a test changes its rules, feeds it and asks it."""

import os
import signal
import time


def wait_until(condition, seconds=90):
    """Polls, since the condition lies in another process; fails with the condition unmet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except Exception:  # a table half way into being is not an answer yet
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.02)


class Live:
    """What runs of a `language.World`."""

    def __init__(self, world, **options):
        self.world, self.project = world, world.project
        self.process = self.project.start("run", "pipelines/p.lua", **options)

    def note(self):
        done = self.project.weir("status", "--json")
        return done.code == 0 and done.json()["note"] or ""

    def wait_for(self, text):
        wait_until(lambda: text in self.note())

    def save(self, rule):
        """As editors do: a new file renamed over the old."""
        os.replace(self.project.write("rules/.r0.tmp", rule), self.project.root / "rules/r0.lua")

    def dead(self):
        return self.process.poll() is not None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, out + err
        return out + err
