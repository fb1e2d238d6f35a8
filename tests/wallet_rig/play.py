"""What tests do with a wallet and a mint, over and over."""

from wallet_rig.mint import URL


async def earn(wallet, mint, keyset_id, amounts):
    """Mines shares of these amounts."""
    await wallet.trust(mint.epochs[keyset_id].announcement, mint.key.public, URL)
    outputs = await wallet.reserve(keyset_id, len(amounts))
    signed = mint.mine(
        keyset_id, [(o.blinded, amount) for o, amount in zip(outputs, amounts, strict=True)]
    )
    receipts = [(o.counter, *answer) for o, answer in zip(outputs, signed, strict=True)]
    received = await wallet.receive(keyset_id, receipts)
    assert (received.stored, received.units, received.bad) == (len(amounts), sum(amounts), ())


async def rich(wallet, mint, sats):
    """Gives a wallet some sats; returns the keyset that they came from."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 2])
    mint.close(keyset_id, sats * 1000)
    [done] = [one for one in await wallet.redeem() if one.keyset.id == keyset_id]
    assert (done.sats, done.reason) == (sats, "")
    return keyset_id


def posts(mint, path):
    """Returns the bodies that were posted to a path."""
    return [body for asked, body in mint.log if asked == path]
