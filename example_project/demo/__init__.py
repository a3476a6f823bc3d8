"""The referral story on real processes: `python -m demo` beside manage.py, or `make demo` above."""
