"""Commands of many arguments, put into bytes at once.

redis-py copies what it has of a command for each argument that it adds: two microseconds each, which for a
script that fires a hundred timers is more than all else that a worker does about them.
"""

from __future__ import annotations

from typing import Any

from redis.utils import HIREDIS_AVAILABLE


class Packer:
    """What connections of redis-py take as `command_packer`.

    Arguments:
        encode: redis-py's own, of one argument; raises `DataError` for what Redis has no form of.
    """

    def __init__(self, encode: Any) -> None:
        self._encode = encode

    def pack(self, *args: Any) -> list[bytes]:
        """One command as Redis reads it; its name may be several words, as in "CONFIG SET"."""
        encode = self._encode
        words = [*encode(args[0]).split(), *map(encode, args[1:])]
        pieces = [b"*%d\r\n" % len(words)]
        pieces += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        return [b"".join(pieces)]


def pack_quickly(client: Any) -> None:
    """Let the connections of a client of one server pack so; hiredis, where it is, does it itself."""
    if HIREDIS_AVAILABLE:
        return
    pool = client.connection_pool
    encoder = pool.get_encoder()

    def encode(argument: Any) -> Any:
        if type(argument) is bytes:
            return argument
        if type(argument) is str:
            return argument.encode(encoder.encoding, encoder.encoding_errors)
        return encoder.encode(argument)

    pool.connection_kwargs["command_packer"] = Packer(encode)
