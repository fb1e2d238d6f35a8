"""Is an MSP that publishes other books than it has kept: one share less, and all of it signed."""

import json
import sys
from collections import Counter

from radpool_sv2.verify.batch import decode_batch, decode_body

from .process import ROOT

VECTORS = ROOT / "spec" / "vectors"
sys.path.insert(0, str(VECTORS))
try:
    from layout import Body, Draft, Owner, Share
    from secp256k1 import sign, tagged_hash
finally:
    sys.path.remove(str(VECTORS))


class Withholder:
    """Writes the batches of an export anew, chained and signed, without one share.

    Args:
        export: A directory that `radpool verify export` wrote, of an epoch that is open.
        secret: The MSP's secret key.
    """

    def __init__(self, export, secret):
        self.export = export
        self.secret = secret
        self.bodies = {
            bytes.fromhex(path.stem): _body(path.read_bytes())
            for path in export.glob("templates/*.bin")
        }

    def withhold(self, commitment):
        """Leaves out a share of an owner from the middle; returns its header hash."""
        files = sorted(self.export.glob("batches/*.bin"))
        batches = [self._read(file) for file in files]
        used = Counter((share.body, share.price) for _, shares in batches for share in shares)
        # Neither a batch nor a template may lose its only share: more would have to be hidden.
        known = [
            (number, share)
            for number, (_batch, shares) in enumerate(batches)
            for share in shares
            if share.owner.commitment == commitment
            and len(shares) > 1
            and used[share.body, share.price] > 1
        ]
        at, left_out = known[len(known) // 2]
        previous, hashes = batches[0][0].previous, []
        for number, (file, (batch, shares)) in enumerate(zip(files, batches, strict=True)):
            kept = [share for share in shares if (number, share) != (at, left_out)]
            draft = self._draft(batch, kept, previous)
            file.write_bytes(draft.blob())
            previous = draft.hash()
            hashes.append(previous)
        self._claim(hashes, left_out, batches[at][0].weight.base)
        return left_out.hash(batches[0][0].msp_key)

    def _read(self, file):
        batch = decode_batch(file.read_bytes())
        shares = []
        for share in batch.shares:
            owner, entry = batch.owners[share.owner], batch.templates[share.template]
            shares.append(
                Share(
                    Owner(owner.commitment, owner.epoch, owner.rail),
                    self.bodies[entry.digest],
                    z=share.exponent,
                    version=share.version,
                    ntime=share.ntime,
                    nonce=share.nonce,
                    extranonce=share.extranonce,
                    price=entry.price,
                )
            )
        return batch, shares

    def _draft(self, batch, shares, previous):
        weight = batch.weight
        return Draft(
            self.secret,
            shares,
            sequence=batch.sequence,
            previous=previous,
            time_ms=batch.time_ms,
            epoch_min=batch.epoch_min,
            weight=(weight.mode, weight.scale, weight.base),
        )

    def _claim(self, hashes, left_out, base):
        file = self.export / "epoch.json"
        claims = json.loads(file.read_bytes())["claims"]
        assert claims["state"] == "open", "payouts would have to be lied about as well"
        for row, batch_hash in zip(claims["batches"], hashes, strict=True):
            row["hash"] = batch_hash.hex()
        [own] = [
            row for row in claims["sums"] if row["commitment"] == left_out.owner.commitment.hex()
        ]
        own["count"] -= 1
        own["work"] = str(int(own["work"]) - (1 << left_out.z))
        own["value"] = str(int(own["value"]) - (left_out.price << left_out.z - base))
        text = _canonical(claims)
        signature = sign(self.secret, tagged_hash("radpool/epoch", text)).hex()
        file.write_bytes(_canonical({"claims": claims, "signature": signature}))


def _canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _body(encoded):
    body = decode_body(encoded)
    return Body(
        body.coinbase_prefix,
        body.coinbase_before_tag,
        body.coinbase_after_tag,
        version=body.version,
        prev_hash=body.prev_hash,
        nbits=body.nbits,
        height=body.height,
        path=tuple(body.merkle_path),
    )
