"""WHO CALLS US. ASGI, uvicorn and gunicorn stay in this room."""
