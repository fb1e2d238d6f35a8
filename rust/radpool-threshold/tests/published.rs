//! Published vectors: `tests/vectors/threshold`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use radpool_identity::{IdentityKey, Signed, invalid_signatures, verify};
use serde_json::Value;

fn read(file: &str, group: &str) -> Vec<Value> {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/threshold").join(file);
    let mut vectors: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let Value::Array(cases) = vectors[group].take() else { panic!("no {group}") };
    assert!(!cases.is_empty());
    cases
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

#[test]
fn bip340_signatures_are_judged_one_by_one_and_together() {
    let mut items = Vec::new();
    let mut invalid = Vec::new();
    // Ours sign hashes: the vectors with messages of other lengths say nothing here.
    for case in read("bip340.json", "signatures") {
        let inputs = &case["inputs"];
        let Ok(hash) = bytes(&inputs["message"]).try_into() else { continue };
        let (public, signature) = (array(&inputs["public_key"]), array(&inputs["signature"]));
        let valid = case["expected"]["valid"].as_bool().unwrap();
        assert_eq!(verify(&public, &hash, &signature).is_ok(), valid, "{}", case["id"]);
        if !valid {
            invalid.push(items.len());
        }
        items.push(Signed { public, hash, signature });
    }
    assert_eq!(items.len(), 15);
    assert_eq!(invalid_signatures(&items), invalid);
    // Enough for several threads.
    let many: Vec<Signed> = items.iter().copied().cycle().take(15 * 40).collect();
    let wanted: Vec<usize> =
        (0..many.len()).filter(|at| invalid.contains(&(at % items.len()))).collect();
    assert_eq!(invalid_signatures(&many), wanted);
    assert!(invalid_signatures(&[]).is_empty());
}

#[test]
fn bip340_keys_sign_without_auxiliary_randomness() {
    let mut signed = 0;
    for case in read("bip340.json", "signatures") {
        let inputs = &case["inputs"];
        let (Some(_), Ok(hash)) = (inputs.get("secret_key"), bytes(&inputs["message"]).try_into())
        else {
            continue;
        };
        let key = IdentityKey::from_secret(&array(&inputs["secret_key"])).unwrap();
        assert_eq!(*key.public(), array::<32>(&inputs["public_key"]), "{}", case["id"]);
        verify(key.public(), &hash, &key.sign(&hash)).unwrap();
        if bytes(&inputs["aux_rand"]) == [0; 32] {
            assert_eq!(key.sign(&hash), array::<64>(&inputs["signature"]), "{}", case["id"]);
            signed += 1;
        }
    }
    assert_eq!(signed, 1);
    assert!(IdentityKey::from_secret(&[0; 32]).is_err());
    assert!(IdentityKey::from_secret(&[0xff; 32]).is_err());
}

#[test]
fn bip341_output_keys_are_tweaked() {
    use frost_secp256k1_tr::{
        VerifyingKey,
        keys::{PublicKeyPackage, Tweak},
    };
    for case in read("bip341.json", "output_keys") {
        let internal = bytes(&case["inputs"]["internal_key"]);
        let root = case["inputs"]["merkle_root"].as_str().map(|root| hex::decode(root).unwrap());
        // The parity of the internal key's other coordinate does not count.
        for parity in [2, 3] {
            let key = VerifyingKey::deserialize(&[&[parity], internal.as_slice()].concat());
            let package = PublicKeyPackage::new(BTreeMap::new(), key.unwrap(), None);
            let output = package.tweak(root.as_deref()).verifying_key().serialize().unwrap();
            assert_eq!(output[1..], bytes(&case["expected"]["output_key"]), "{}", case["id"]);
        }
    }
}

#[test]
fn bip341_key_path_spends_are_signed_by_a_threshold() {
    use frost_secp256k1_tr::{
        SigningKey, SigningPackage, aggregate_with_tweak,
        keys::{IdentifierList, KeyPackage, split},
        round1::commit,
        round2::sign_with_tweak,
    };
    use rand_core::OsRng;
    for case in read("bip341.json", "key_path") {
        let inputs = &case["inputs"];
        let secret = SigningKey::deserialize(&bytes(&inputs["internal_secret"])).unwrap();
        let root = inputs["merkle_root"].as_str().map(|root| hex::decode(root).unwrap());
        let hash: [u8; 32] = array(&inputs["signature_hash"]);
        let (shares, public) = split(&secret, 4, 3, IdentifierList::Default, &mut OsRng).unwrap();
        let packages: Vec<KeyPackage> =
            shares.into_values().take(3).map(|share| share.try_into().unwrap()).collect();
        let (mut nonces, mut commitments) = (BTreeMap::new(), BTreeMap::new());
        for package in &packages {
            let (nonce, commitment) = commit(package.signing_share(), &mut OsRng);
            nonces.insert(*package.identifier(), nonce);
            commitments.insert(*package.identifier(), commitment);
        }
        let signing = SigningPackage::new(commitments, &hash);
        let shares = packages
            .iter()
            .map(|package| {
                let nonce = &nonces[package.identifier()];
                let share = sign_with_tweak(&signing, nonce, package, root.as_deref()).unwrap();
                (*package.identifier(), share)
            })
            .collect();
        let signature = aggregate_with_tweak(&signing, &shares, &public, root.as_deref());
        let signature: [u8; 64] = signature.unwrap().serialize().unwrap().try_into().unwrap();
        // The vector's key, its own signature, and ours.
        let output = IdentityKey::from_secret(&array(&case["expected"]["tweaked_secret"])).unwrap();
        verify(output.public(), &hash, &array(&case["expected"]["signature"])).unwrap();
        verify(output.public(), &hash, &signature).unwrap();
    }
}

#[test]
fn rfc9591_signatures_are_made_byte_by_byte() {
    use frost_core::round1::Nonce;
    use frost_secp256k1::{
        Identifier, SigningPackage, VerifyingKey, aggregate,
        keys::{KeyPackage, PublicKeyPackage, SigningShare, VerifyingShare},
        round1::SigningNonces,
        round2::sign,
    };
    for case in read("rfc9591.json", "signatures") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let identifier = |name: &str| Identifier::try_from(name.parse::<u16>().unwrap()).unwrap();
        let group = VerifyingKey::deserialize(&bytes(&expected["group_key"])).unwrap();
        let shares: BTreeMap<_, _> = inputs["shares"].as_object().unwrap().iter().collect();
        let share =
            |name: &str| SigningShare::deserialize(&bytes(&inputs["shares"][name])).unwrap();
        let verifying = shares
            .keys()
            .map(|name| (identifier(name), VerifyingShare::from(share(name))))
            .collect();
        let threshold = u16::try_from(inputs["threshold"].as_u64().unwrap()).unwrap();
        let public = PublicKeyPackage::new(verifying, group, Some(threshold));
        let nonces: BTreeMap<_, _> = inputs["nonces"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, nonce)| {
                let nonce = |part: &str| Nonce::deserialize(&bytes(&nonce[part])).unwrap();
                (name, SigningNonces::from_nonces(nonce("hiding"), nonce("binding")))
            })
            .collect();
        for (name, nonce) in &nonces {
            let wanted = &expected["commitments"][name.as_str()];
            let commitments = nonce.commitments();
            let hiding = commitments.hiding().serialize().unwrap();
            assert_eq!(hiding, bytes(&wanted["hiding"]));
            assert_eq!(commitments.binding().serialize().unwrap(), bytes(&wanted["binding"]));
        }
        let commitments =
            nonces.iter().map(|(name, nonce)| (identifier(name), *nonce.commitments())).collect();
        let signing = SigningPackage::new(commitments, &bytes(&inputs["message"]));
        let shares: BTreeMap<_, _> = nonces
            .iter()
            .map(|(name, nonce)| {
                let secret = share(name);
                let package = KeyPackage::new(
                    identifier(name),
                    secret,
                    VerifyingShare::from(secret),
                    group,
                    threshold,
                );
                let share = sign(&signing, nonce, &package).unwrap();
                assert_eq!(share.serialize(), bytes(&expected["signature_shares"][name.as_str()]));
                (identifier(name), share)
            })
            .collect();
        let signature = aggregate(&signing, &shares, &public).unwrap();
        assert_eq!(signature.serialize().unwrap(), bytes(&expected["signature"]));
        group.verify(&bytes(&inputs["message"]), &signature).unwrap();
    }
}

/// Adds tweaks to a key one after the other, as BIP-445 has it; returns it x-only.
fn tweaked(key: &[u8], tweaks: &[Value]) -> [u8; 32] {
    use secp256k1::{Parity, PublicKey, SECP256K1, Scalar};
    let mut key = PublicKey::from_slice(key).unwrap();
    for tweak in tweaks {
        let is_odd = key.x_only_public_key().1 == Parity::Odd;
        if tweak["is_xonly"].as_bool().unwrap() && is_odd {
            key = key.negate(SECP256K1);
        }
        let tweak = Scalar::from_be_bytes(array(&tweak["tweak"])).unwrap();
        key = key.add_exp_tweak(SECP256K1, &tweak).unwrap();
    }
    key.x_only_public_key().0.serialize()
}

#[test]
fn bip445_signatures_are_those_of_a_single_signer() {
    for case in read("bip445.json", "signatures") {
        let inputs = &case["inputs"];
        let tweaks = inputs["tweaks"].as_array().unwrap();
        let public = tweaked(&bytes(&inputs["threshold_key"]), tweaks);
        let hash: [u8; 32] = array(&inputs["message"]);
        let mut signature: [u8; 64] = array(&case["expected"]["signature"]);
        verify(&public, &hash, &signature).unwrap();
        signature[63] ^= 1;
        assert!(verify(&public, &hash, &signature).is_err(), "{}", case["id"]);
    }
}

/// Signers of that draft have one binding factor together, ours one each: their messages do not
/// mix. Their shares of a key are shares of the same key here.
#[test]
fn bip445_keys_sign_here_too() {
    use frost_secp256k1_tr::{
        Identifier, SigningPackage, VerifyingKey, aggregate,
        keys::{KeyPackage, PublicKeyPackage, SigningShare, VerifyingShare},
        round1::commit,
        round2::sign,
    };
    use rand_core::OsRng;
    for case in read("bip445.json", "keys") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let threshold = u16::try_from(inputs["threshold"].as_u64().unwrap()).unwrap();
        let group = VerifyingKey::deserialize(&bytes(&inputs["threshold_key"])).unwrap();
        let mut packages = Vec::new();
        for (at, share) in inputs["secret_shares"].as_array().unwrap().iter().enumerate() {
            // Their members count from 0, and are on the polynomial at one more.
            let place = Identifier::try_from(u16::try_from(at).unwrap() + 1).unwrap();
            let share = SigningShare::deserialize(&bytes(share)).unwrap();
            let verifying = VerifyingShare::from(share);
            let wanted = bytes(&expected["verifying_shares"][at]);
            assert_eq!(verifying.serialize().unwrap(), wanted, "{}", case["id"]);
            packages.push(KeyPackage::new(place, share, verifying, group, threshold));
        }
        let verifying =
            packages.iter().map(|each| (*each.identifier(), *each.verifying_share())).collect();
        let public = PublicKeyPackage::new(verifying, group, Some(threshold));
        let hash = [0x5e; 32];
        for signers in packages.windows(usize::from(threshold)) {
            let (mut nonces, mut commitments) = (BTreeMap::new(), BTreeMap::new());
            for package in signers {
                let (nonce, commitment) = commit(package.signing_share(), &mut OsRng);
                nonces.insert(*package.identifier(), nonce);
                commitments.insert(*package.identifier(), commitment);
            }
            let signing = SigningPackage::new(commitments, &hash);
            let shares = signers
                .iter()
                .map(|each| {
                    let share = sign(&signing, &nonces[each.identifier()], each).unwrap();
                    (*each.identifier(), share)
                })
                .collect();
            let signature = aggregate(&signing, &shares, &public).unwrap().serialize().unwrap();
            let public = tweaked(&bytes(&inputs["threshold_key"]), &[]);
            verify(&public, &hash, &signature.try_into().unwrap()).unwrap();
        }
    }
}

/// ChillDKG hides no script in its keys either, but adds the tweak to the sum as it is, where ours
/// takes the one of two with an even coordinate: every other key is another one.
#[test]
fn chilldkg_keys_are_ours_where_the_sum_is_even() {
    use std::collections::BTreeSet;

    use frost_secp256k1_tr::{
        Identifier,
        keys::{
            PublicKeyPackage, SigningShare, Tweak, VerifiableSecretSharingCommitment,
            VerifyingShare,
        },
    };
    let mut even = 0;
    for case in read("chilldkg.json", "keys") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let points: Vec<_> = inputs["commitment"].as_array().unwrap().iter().map(bytes).collect();
        let is_even = points[0][0] == 2;
        let commitment = VerifiableSecretSharingCommitment::deserialize(points).unwrap();
        let shares: Vec<_> =
            expected["verifying_shares"].as_array().unwrap().iter().map(bytes).collect();
        let places: BTreeSet<Identifier> = (1..=u16::try_from(shares.len()).unwrap())
            .map(|place| place.try_into().unwrap())
            .collect();
        let public = PublicKeyPackage::from_commitment(&places, &commitment).unwrap();
        let public = public.tweak(None::<&[u8]>);
        let ours: Vec<_> =
            public.verifying_shares().values().map(|each| each.serialize().unwrap()).collect();
        let key = public.verifying_key().serialize().unwrap();
        assert_eq!(key == bytes(&expected["threshold_key"]), is_even, "{}", case["id"]);
        assert_eq!(ours == shares, is_even, "{}", case["id"]);
        // Their shares are what their verifying shares say, whichever key it is.
        let share = SigningShare::deserialize(&bytes(&inputs["secret_share"])).unwrap();
        assert!(shares.contains(&VerifyingShare::from(share).serialize().unwrap()));
        even += usize::from(is_even);
    }
    assert_eq!(even, 2);
}
