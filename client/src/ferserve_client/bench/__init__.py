"""Measures a server under load: closed and open loops, calls and streams, and the capacity under a bound."""
