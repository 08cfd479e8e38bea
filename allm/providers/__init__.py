"""Providers: one module a wire. Request -> HttpRequest, bytes -> events. Pure: no socket, no clock, no thread."""
