import time


def until_logged(binds):
    """Waits until so many records of binds stand in this run's log."""
    logged = 0
    while logged < binds:
        time.sleep(0.01)
        with open("log.jsonl") as log:
            logged = sum('"call":"bind"' in line for line in log)


