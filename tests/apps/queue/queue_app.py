"""An app with services beside it: a queue in Valkey with a worker, and a cache in Memcached."""

import errno
import os
import socket

import redis
from flask import Flask
from pymemcache.client.base import Client
from rq import Queue
from rq.job import Job

app = Flask(__name__)
store = redis.Redis.from_url(os.environ["REDIS_URL"])


@app.get("/")
def index() -> str:
    """Answer only if Valkey does."""
    return str(store.ping())


@app.post("/count")
def count() -> str:
    """Count in Valkey; unlike the front page, no health check requests this."""
    return str(store.incr("count"))


@app.post("/double/<int:number>")
def add(number: int) -> str:
    """Leave a task to the worker, and return its ID."""
    return Queue(connection=store).enqueue("tasks.double", number).id


@app.get("/result/<name>")
def result(name: str) -> str:
    """Return what the worker has found out."""
    return str(Job.fetch(name, connection=store).return_value())


@app.get("/cache/<word>")
def cache(word: str) -> str:
    """Store a word in Memcached, and read it again."""
    client = Client(os.environ["MEMCACHED_SERVERS"], timeout=5)
    client.set("word", word)
    return client.get("word").decode()


@app.get("/reach/<host>/<int:port>")
def reach(host: str, port: int) -> str:
    """Tell how a connection ends."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "open"
