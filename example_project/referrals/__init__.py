"""Refer a friend: who has not signed up after a day gets one text message."""
