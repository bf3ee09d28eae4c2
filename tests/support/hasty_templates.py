"""The child process of ``portico.prompting.isolation``, with a tenth of its time."""

from portico.prompting import isolation

if __name__ == "__main__":
    vars(isolation)["SECONDS"] = isolation.SECONDS / 10
    isolation._serve()
