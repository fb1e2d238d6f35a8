//! `radpool_sv2._native.threshold`: keys that no member holds alone, and identity keys.

use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use pyo3::{prelude::*, pybacked::PyBackedBytes, types::PyBytes};
use radpool_identity::{self as identity, Signed};
use radpool_threshold::frost::{self, AggregateError, Complaint, Fault, FinishError, Purpose};
use rand_core::OsRng;
use zeroize::Zeroizing;

use crate::{
    argument::{Int, hash},
    error::{config_error, faulty_msp, internal_error, local_error, remote_error},
    keys::random_bytes,
};

type Signature = [u8; identity::SIGNATURE_LEN];

/// Who is at fault when a member's bytes are wrong: the member, by its identity key.
fn faulty(run: &frost::Run, author: u16, error: impl std::fmt::Display, bytes: &[u8]) -> PyErr {
    match run.members().get(usize::from(author)) {
        Some(member) => faulty_msp(error, member, bytes),
        None => local_error(format!("the run has no member {author}")),
    }
}

fn signature(bytes: &[u8]) -> PyResult<Signature> {
    let wrong = |_| local_error(format!("a signature has 64 bytes, not {}", bytes.len()));
    bytes.try_into().map_err(wrong)
}

fn root(bytes: Option<&[u8]>) -> PyResult<Option<[u8; 32]>> {
    bytes.map(|root| hash("merkle_root", root)).transpose()
}

/// Takes a value that is used once out of its place.
fn take<T>(place: &Mutex<Option<T>>, what: &str) -> PyResult<T> {
    let taken = place.lock().take();
    taken.ok_or_else(|| local_error(format!("{what} is used once, and was")))
}

/// Speaks for a member.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct IdentityKey(identity::IdentityKey);

#[pymethods]
impl IdentityKey {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        let secret = Zeroizing::new(random_bytes()?);
        identity::IdentityKey::from_secret(&secret).map(Self).map_err(internal_error)
    }

    #[staticmethod]
    fn from_secret(secret: &[u8]) -> PyResult<Self> {
        let secret = Zeroizing::new(<[u8; 32]>::try_from(secret).map_err(|_| {
            config_error(format!("an identity's secret key has 32 bytes, not {}", secret.len()))
        })?);
        identity::IdentityKey::from_secret(&secret).map(Self).map_err(config_error)
    }

    fn expose_secret<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.expose_secret().as_slice())
    }

    #[getter]
    fn public(&self) -> [u8; 32] {
        *self.0.public()
    }

    #[pyo3(signature = (hash, /))]
    fn sign(&self, py: Python<'_>, hash: &[u8]) -> PyResult<Signature> {
        let hash = crate::argument::hash("hash", hash)?;
        Ok(py.detach(|| self.0.sign(&hash)))
    }

    fn __repr__(&self) -> String {
        format!("IdentityKey(secret redacted, public {})", hex::encode(self.0.public()))
    }
}

#[pyfunction]
pub(crate) fn invalid_signatures(
    py: Python<'_>,
    items: Vec<(PyBackedBytes, PyBackedBytes, PyBackedBytes)>,
) -> Vec<usize> {
    py.detach(|| {
        let mut malformed = Vec::new();
        let mut positions = Vec::with_capacity(items.len());
        let mut signed = Vec::with_capacity(items.len());
        for (position, (public, hash, signature)) in items.iter().enumerate() {
            let fields = (
                <[u8; 32]>::try_from(&**public),
                <[u8; 32]>::try_from(&**hash),
                Signature::try_from(&**signature),
            );
            let (Ok(public), Ok(hash), Ok(signature)) = fields else {
                malformed.push(position);
                continue;
            };
            positions.push(position);
            signed.push(Signed { public, hash, signature });
        }
        let invalid = identity::invalid_signatures(&signed);
        malformed.extend(invalid.into_iter().map(|at| positions[at]));
        malformed.sort_unstable();
        malformed
    })
}

/// One attempt to generate one key.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct Run(Arc<frost::Run>);

#[pymethods]
impl Run {
    #[new]
    fn new(
        committee: &[u8],
        purpose: Int<u8>,
        attempt: Int<u32>,
        threshold: Int<u16>,
        members: Vec<PyBackedBytes>,
    ) -> PyResult<Self> {
        let committee = hash("committee", committee)?;
        let purpose = Purpose::from_u8(purpose.0).ok_or_else(|| {
            local_error(format!("{} is no purpose: 1 checkpoint, 2 treasury, 3 oracle", purpose.0))
        })?;
        let members = members.iter().map(|key| hash("member", key)).collect::<PyResult<_>>()?;
        frost::Run::new(committee, purpose, attempt.0, threshold.0, members)
            .map(|run| Self(Arc::new(run)))
            .map_err(local_error)
    }

    #[getter]
    fn id(&self) -> [u8; 32] {
        *self.0.id()
    }

    #[getter]
    fn committee(&self) -> [u8; 32] {
        *self.0.committee()
    }

    #[getter]
    fn purpose(&self) -> u8 {
        self.0.purpose() as u8
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.0.attempt()
    }

    #[getter]
    fn threshold(&self) -> u16 {
        self.0.threshold()
    }

    #[getter]
    fn members(&self) -> Vec<[u8; 32]> {
        self.0.members().to_vec()
    }
}

/// A member's first message, verified.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct Round1(frost::Round1);

#[pymethods]
impl Round1 {
    #[staticmethod]
    fn decode(py: Python<'_>, run: &Run, author: Int<u16>, data: PyBackedBytes) -> PyResult<Self> {
        py.detach(|| frost::Round1::decode(&run.0, author.0, &data))
            .map(Self)
            .map_err(|error| faulty(&run.0, author.0, error, &data))
    }

    #[getter]
    fn author(&self) -> u16 {
        self.0.author()
    }
}

/// The first messages of all members.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct Round1Set(Arc<frost::Round1Set>);

#[pymethods]
impl Round1Set {
    #[new]
    fn new(run: &Run, messages: Vec<PyRef<'_, Round1>>) -> PyResult<Self> {
        let messages = messages.iter().map(|message| message.0.clone()).collect();
        frost::Round1Set::new(Arc::clone(&run.0), messages)
            .map(|set| Self(Arc::new(set)))
            .map_err(local_error)
    }

    #[getter]
    fn digest(&self) -> [u8; 32] {
        *self.0.digest()
    }
}

/// A member's second message; what is in its boxes only their recipients know.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct Round2(frost::Round2);

#[pymethods]
impl Round2 {
    #[staticmethod]
    fn decode(round1: &Round1Set, author: Int<u16>, data: &[u8]) -> PyResult<Self> {
        frost::Round2::decode(&round1.0, author.0, data)
            .map(Self)
            .map_err(|error| faulty(round1.0.run(), author.0, error, data))
    }

    #[getter]
    fn author(&self) -> u16 {
        self.0.author()
    }
}

/// A member that has drawn its polynomial.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct Dealing {
    message: Vec<u8>,
    dealing: Mutex<Option<frost::Dealing>>,
}

#[pymethods]
impl Dealing {
    #[new]
    fn new(py: Python<'_>, run: &Run, index: Int<u16>) -> PyResult<Self> {
        let run = Arc::clone(&run.0);
        let dealing = py.detach(|| frost::Dealing::new(run, index.0, &mut OsRng));
        let dealing = dealing.map_err(finish_error)?;
        Ok(Self { message: dealing.message().to_vec(), dealing: Mutex::new(Some(dealing)) })
    }

    #[getter]
    fn message<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.message)
    }

    fn deal<'py>(
        &self,
        py: Python<'py>,
        round1: &Round1Set,
    ) -> PyResult<(Dealt, Bound<'py, PyBytes>)> {
        let dealing = take(&self.dealing, "a polynomial")?;
        let round1 = Arc::clone(&round1.0);
        let (dealt, message) =
            py.detach(|| dealing.deal(round1, &mut OsRng)).map_err(finish_error)?;
        Ok((Dealt(Mutex::new(Some(dealt))), PyBytes::new(py, &message)))
    }

    fn __repr__(&self) -> &'static str {
        "Dealing(redacted)"
    }
}

/// A member that has dealt.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct Dealt(Mutex<Option<frost::Dealt>>);

/// A dealer's position and the complaint about it.
type ComplaintRow<'py> = (u16, Bound<'py, PyBytes>);

#[pymethods]
impl Dealt {
    fn finish<'py>(
        &self,
        py: Python<'py>,
        round2: Vec<PyRef<'_, Round2>>,
    ) -> PyResult<(Option<KeyShare>, Vec<ComplaintRow<'py>>)> {
        let round2: Vec<_> = round2.iter().map(|message| message.0.clone()).collect();
        let dealt = take(&self.0, "a dealt polynomial")?;
        match py.detach(|| dealt.finish(&round2)) {
            Ok(share) => Ok((Some(KeyShare(Arc::new(share))), Vec::new())),
            Err(FinishError::BadShares(complaints)) => {
                let row = |told: &Complaint| (told.dealer(), PyBytes::new(py, &told.encode()));
                Ok((None, complaints.iter().map(row).collect()))
            }
            Err(error) => Err(finish_error(error)),
        }
    }

    fn __repr__(&self) -> &'static str {
        "Dealt(redacted)"
    }
}

fn finish_error(error: FinishError) -> PyErr {
    match error {
        FinishError::Library(_) => internal_error(error),
        _ => local_error(error),
    }
}

#[pyfunction]
pub(crate) fn judge(
    py: Python<'_>,
    round1: &Round1Set,
    round2: Vec<PyRef<'_, Round2>>,
    accuser: Int<u16>,
    complaint: &[u8],
) -> PyResult<(u16, &'static str)> {
    let run = round1.0.run();
    let read = Complaint::decode(run, accuser.0, complaint)
        .map_err(|error| faulty(run, accuser.0, error, complaint))?;
    let accused = round2.iter().find(|message| message.0.author() == read.dealer());
    let accused = accused.ok_or_else(|| {
        local_error(format!(
            "the second message of the accused member {} is missing",
            read.dealer()
        ))
    })?;
    let accused = accused.0.clone();
    let verdict = py.detach(|| frost::judge(&round1.0, &accused, accuser.0, &read));
    let verdict = verdict.map_err(local_error)?;
    let fault = match verdict.fault {
        Fault::UnreadableShare => "unreadable-share",
        Fault::WrongShare => "wrong-share",
        Fault::ForeignSecret => "foreign-secret",
        Fault::FalseComplaint => "false-complaint",
    };
    Ok((verdict.culprit, fault))
}

/// A key of a committee.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct PublicKey(Arc<frost::PublicKey>);

#[pymethods]
impl PublicKey {
    #[staticmethod]
    fn from_broadcast(
        py: Python<'_>,
        round1: &Round1Set,
        round2: Vec<PyRef<'_, Round2>>,
    ) -> PyResult<Self> {
        let round2: Vec<_> = round2.iter().map(|message| message.0.clone()).collect();
        py.detach(|| frost::PublicKey::from_broadcast(&round1.0, &round2))
            .map(|key| Self(Arc::new(key)))
            .map_err(local_error)
    }

    #[staticmethod]
    fn decode(py: Python<'_>, data: PyBackedBytes) -> PyResult<Self> {
        py.detach(|| frost::PublicKey::decode(&data))
            .map(|key| Self(Arc::new(key)))
            .map_err(remote_error)
    }

    fn encode<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.encode())
    }

    #[getter]
    fn run(&self) -> Run {
        Run(Arc::clone(self.0.run()))
    }

    #[getter]
    fn transcript(&self) -> [u8; 32] {
        *self.0.transcript()
    }

    #[getter]
    fn certificate_hash(&self) -> [u8; 32] {
        frost::certificate_hash(self.0.transcript())
    }

    fn unsigned_by(
        &self,
        py: Python<'_>,
        signatures: Vec<Option<PyBackedBytes>>,
    ) -> PyResult<Vec<u16>> {
        if signatures.len() != self.0.run().members().len() {
            return Err(local_error(format!(
                "{} signatures: give one or None for each of {} members",
                signatures.len(),
                self.0.run().size()
            )));
        }
        // What is no signature at all is one that does not hold.
        let signatures: Vec<_> = signatures
            .iter()
            .map(|given| given.as_ref().and_then(|bytes| (&**bytes).try_into().ok()))
            .collect();
        Ok(py.detach(|| frost::unsigned_by(&self.0, &signatures)))
    }

    #[getter]
    fn internal_key(&self) -> [u8; 32] {
        self.0.internal_key()
    }

    #[pyo3(signature = (merkle_root = None))]
    fn output_key(&self, merkle_root: Option<&[u8]>) -> PyResult<[u8; 32]> {
        self.0.output_key(root(merkle_root)?.as_ref()).map_err(local_error)
    }

    #[pyo3(signature = (message, signature, merkle_root = None))]
    fn verify(
        &self,
        py: Python<'_>,
        message: &[u8],
        signature: &[u8],
        merkle_root: Option<&[u8]>,
    ) -> PyResult<()> {
        let (message, root) = (hash("message", message)?, root(merkle_root)?);
        let signature = self::signature(signature)?;
        self.0.output_key(root.as_ref()).map_err(local_error)?;
        py.detach(|| self.0.verify(&message, root.as_ref(), &signature)).map_err(remote_error)
    }

    fn __repr__(&self) -> String {
        let run = self.0.run();
        let key = hex::encode(self.0.internal_key());
        format!("PublicKey({} {key}, {} of {})", run.purpose(), run.threshold(), run.size())
    }
}

/// A member's share of a key.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct KeyShare(Arc<frost::KeyShare>);

#[pymethods]
impl KeyShare {
    #[staticmethod]
    fn open(py: Python<'_>, owner: &IdentityKey, data: PyBackedBytes) -> PyResult<Self> {
        py.detach(|| frost::KeyShare::open(&owner.0, &data))
            .map(|share| Self(Arc::new(share)))
            .map_err(config_error)
    }

    fn seal<'py>(&self, py: Python<'py>, owner: &IdentityKey) -> PyResult<Bound<'py, PyBytes>> {
        let sealed = py.detach(|| self.0.seal(&owner.0, &mut OsRng)).map_err(local_error)?;
        Ok(PyBytes::new(py, &sealed))
    }

    #[getter]
    fn public(&self) -> PublicKey {
        PublicKey(Arc::clone(self.0.public()))
    }

    #[getter]
    fn index(&self) -> u16 {
        self.0.index()
    }

    fn __repr__(&self) -> String {
        format!("KeyShare(secret redacted, member {})", self.0.index())
    }
}

/// All pools of the process, so that a forked child can be rid of them at once.
static POOLS: LazyLock<Mutex<Vec<Weak<Mutex<frost::NoncePool>>>>> = LazyLock::new(Mutex::default);

#[pyfunction]
pub(crate) fn wipe_nonces() {
    // Another thread may have held a lock when the process was forked, and will never release it in
    // the child: what cannot be wiped here refuses to sign there, as the process is another.
    let Some(pools) = POOLS.try_lock() else { return };
    for pool in pools.iter().filter_map(Weak::upgrade) {
        if let Some(mut pool) = pool.try_lock() {
            pool.wipe();
        }
    }
}

/// A member's unspent nonces.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct NoncePool(Arc<Mutex<frost::NoncePool>>);

#[pymethods]
impl NoncePool {
    #[new]
    fn new(share: &KeyShare, boot: Int<u64>) -> Self {
        let pool = Arc::new(Mutex::new(frost::NoncePool::new(Arc::clone(&share.0), boot.0)));
        let mut pools = POOLS.lock();
        pools.retain(|known| known.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        Self(pool)
    }

    fn commit(&self, py: Python<'_>, count: Int<usize>) -> PyResult<Vec<Commitment>> {
        let commitments = py.detach(|| self.0.lock().commit(count.0, &mut OsRng));
        Ok(commitments.map_err(local_error)?.into_iter().map(Commitment).collect())
    }

    fn sign(&self, py: Python<'_>, session: &Session) -> PyResult<[u8; frost::SHARE_LEN]> {
        py.detach(|| self.0.lock().sign(&session.0)).map_err(local_error)
    }

    fn burn(&self, slots: Vec<Int<u64>>) {
        let slots: Vec<u64> = slots.iter().map(|slot| slot.0).collect();
        self.0.lock().burn(&slots);
    }

    fn wipe(&self) {
        self.0.lock().wipe();
    }

    #[getter]
    fn boot(&self) -> u64 {
        self.0.lock().boot()
    }

    #[getter]
    fn unspent(&self) -> usize {
        self.0.lock().unspent()
    }

    fn __repr__(&self) -> String {
        let pool = self.0.lock();
        format!("NoncePool(secret redacted, boot {}, {} unspent)", pool.boot(), pool.unspent())
    }
}

/// The public side of a nonce, whose points were read once.
#[pyclass(frozen, eq, module = "radpool_sv2._native.threshold")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment(frost::Commitment);

#[pymethods]
impl Commitment {
    #[staticmethod]
    fn decode(py: Python<'_>, data: PyBackedBytes) -> PyResult<Self> {
        py.detach(|| frost::Commitment::decode(&data)).map(Self).map_err(remote_error)
    }

    fn encode(&self) -> [u8; frost::COMMITMENT_LEN] {
        self.0.encode()
    }

    #[getter]
    fn boot(&self) -> u64 {
        self.0.boot()
    }

    #[getter]
    fn slot(&self) -> u64 {
        self.0.slot()
    }

    fn __hash__(&self) -> u64 {
        // Nonces of two members may have one boot and slot: equality tells them apart.
        self.0.boot().rotate_left(32) ^ self.0.slot()
    }

    fn __repr__(&self) -> String {
        format!("Commitment(boot {}, slot {})", self.0.boot(), self.0.slot())
    }
}

/// One attempt to sign.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct Session(frost::Session);

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (key, message, signers, number = Int(0), merkle_root = None),
           text_signature = "(key, message, signers, number=0, merkle_root=None)")]
    fn new(
        py: Python<'_>,
        key: &PublicKey,
        message: &[u8],
        signers: Vec<(Int<u16>, PyRef<'_, Commitment>)>,
        number: Int<u64>,
        merkle_root: Option<&[u8]>,
    ) -> PyResult<Self> {
        let (message, root) = (hash("message", message)?, root(merkle_root)?);
        let signers: Vec<_> =
            signers.iter().map(|(index, commitment)| (index.0, commitment.0)).collect();
        let key = Arc::clone(&key.0);
        py.detach(|| frost::Session::new(key, message, root, number.0, &signers))
            .map(Self)
            .map_err(local_error)
    }

    #[getter]
    fn id(&self) -> [u8; 32] {
        *self.0.id()
    }

    #[getter]
    fn signing_id(&self) -> [u8; 32] {
        *self.0.signing_id()
    }

    #[getter]
    fn number(&self) -> u64 {
        self.0.number()
    }

    #[getter]
    fn signers(&self) -> Vec<u16> {
        self.0.signers().collect()
    }

    fn verify_share(&self, py: Python<'_>, author: Int<u16>, data: PyBackedBytes) -> PyResult<()> {
        py.detach(|| self.0.verify_share(author.0, &data))
            .map_err(|error| faulty(self.0.key().run(), author.0, error, &data))
    }

    fn aggregate(
        &self,
        py: Python<'_>,
        shares: Vec<(Int<u16>, PyBackedBytes)>,
    ) -> PyResult<(Option<Signature>, Vec<u16>)> {
        let shares: Vec<_> =
            shares.iter().map(|(author, data)| (author.0, data.to_vec())).collect();
        match py.detach(|| self.0.aggregate(&shares)) {
            Ok(signature) => Ok((Some(signature), Vec::new())),
            Err(AggregateError::Cheaters(cheaters)) => Ok((None, cheaters)),
            Err(error @ AggregateError::Library) => Err(internal_error(error)),
            Err(error) => Err(local_error(error)),
        }
    }
}

/// Names of the purposes, bounds and lengths; a forked child is rid of all nonces at once.
pub(crate) fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for purpose in [Purpose::Checkpoint, Purpose::Treasury, Purpose::Oracle] {
        module.add(purpose.to_string().to_uppercase(), purpose as u8)?;
    }
    module.add("MEMBERS_MAX", frost::MEMBERS_MAX)?;
    module.add("NONCES_MAX", frost::NONCES_MAX)?;
    module.add("COMMITMENT_LEN", frost::COMMITMENT_LEN)?;
    module.add("COMPLAINT_LEN", frost::COMPLAINT_LEN)?;
    module.add("SHARE_LEN", frost::SHARE_LEN)?;
    module.add("MESSAGE_LEN_MAX", radpool_threshold::link::MESSAGE_MAX)?;
    let options = pyo3::types::PyDict::new(module.py());
    options.set_item("after_in_child", module.getattr("wipe_nonces")?)?;
    module.py().import("os")?.call_method("register_at_fork", (), Some(&options))?;
    Ok(())
}
