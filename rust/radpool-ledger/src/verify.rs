//! Recomputing everything that a batch claims.
//!
//! Source: `spec/03-share-batch.md`, "Verification".

use std::collections::HashSet;

use radpool_units::{
    ABREAST, Exponent, Hash256, Midstate, Work, merkle_roots_abreast, sha256d_abreast,
};
use thiserror::Error;

use crate::{
    Batch, Earned, OWNER_SCRIPT_LEN, Owner, PricedTemplate, Share, SumTree, TemplateBody,
    coinbase::{CoinbaseFault, check_coinbase},
};

/// The version bits that a miner may change: those of BIP323, 13 to 28, and 5 to 12 as SRI grants.
pub const VERSION_MASK: u32 = 0x1fff_ffe0;

/// A batch that is not what it claims to be: the MSP that published it is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("the batch ends inside a field")]
    Truncated,
    #[error("{0} bytes follow the signature")]
    Trailing(usize),
    #[error("not a share batch: it does not begin with \"RPSB\"")]
    Magic,
    #[error("a batch of version {0}: versions 1 and 2 are known")]
    Version(u8),
    #[error("a rule of weight with {0}: modes 1 to 3 and bases to 120 are defined")]
    Weight(u8),
    #[error("rail {0} in the table of owners: 0 account, 1 ecash and 2 contract are defined")]
    Rail(u8),
    #[error("a share with exponent {0}: the ladder ends at 120")]
    Exponent(u8),
    #[error("a share with exponent {0}, which is below the base of the batch")]
    ExponentBase(u8),
    #[error("a share with an extranonce of {0} bytes: 32 is the most")]
    ExtranonceLength(usize),
    #[error("{0} shares: a batch has 1 to 65535")]
    ShareCount(u32),
    #[error(
        "share {0}: the tables are not in order of first use, or hold an entry that no share uses"
    )]
    TableOrder(u32),
    #[error("a table holds the same entry twice")]
    TableRepeat,
    #[error("the signature is not that of the batch hash by the MSP's key")]
    Signature,
    #[error("the shares' work does not sum to what the batch claims")]
    WorkSum,
    #[error("the shares' value does not sum to what the batch claims")]
    ValueSum,
    #[error("the Merkle-sum root is not that of the shares")]
    Root,
    #[error("template body {0} is missing")]
    TemplateMissing(usize),
    #[error("template body {0} does not have the digest that the batch names")]
    TemplateDigest(usize),
    #[error("template body {0} is not well formed")]
    TemplateShape(usize),
    #[error("share {0}: template and extranonce do not make a coinbase")]
    Coinbase(usize),
    #[error("share {0}: the coinbase does not begin with the template's height")]
    Height(usize),
    #[error(
        "share {0}: the coinbase does not have exactly one owner output, of this owner and exponent"
    )]
    OwnerTag(usize),
    #[error("share {0}: version bits differ from the template's outside the rollable ones")]
    VersionBits(usize),
    #[error("share {0}: the header's hash does not meet the exponent of its tag")]
    InsufficientWork(usize),
    #[error("share {0} is the same header as an earlier one")]
    DuplicateShare(usize),
}

impl BatchError {
    /// The word for it that the test vectors use.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Trailing(_) => "trailing-bytes",
            Self::Magic => "magic",
            Self::Version(_) => "version",
            Self::Weight(_) => "weight",
            Self::Rail(_) => "rail",
            Self::Exponent(_) | Self::ExponentBase(_) => "exponent",
            Self::ExtranonceLength(_) => "extranonce-length",
            Self::ShareCount(_) => "share-count",
            Self::TableOrder(_) => "table-order",
            Self::TableRepeat => "table-repeat",
            Self::Signature => "signature",
            Self::WorkSum => "work-sum",
            Self::ValueSum => "value-sum",
            Self::Root => "root",
            Self::TemplateMissing(_) => "template-missing",
            Self::TemplateDigest(_) => "template-digest",
            Self::TemplateShape(_) => "template-shape",
            Self::Coinbase(_) => "coinbase",
            Self::Height(_) => "height",
            Self::OwnerTag(_) => "owner-tag",
            Self::VersionBits(_) => "version-bits",
            Self::InsufficientWork(_) => "insufficient-work",
            Self::DuplicateShare(_) => "duplicate-share",
        }
    }

    /// Whether the batch and its bodies convict the MSP to anyone who has them.
    ///
    /// The signature covers the head alone: until the records have its root and the bodies its
    /// digests, whoever passed the bytes on may have altered them.
    #[must_use]
    pub const fn is_evidence(&self) -> bool {
        matches!(
            self,
            Self::TemplateShape(_)
                | Self::Coinbase(_)
                | Self::Height(_)
                | Self::OwnerTag(_)
                | Self::VersionBits(_)
                | Self::InsufficientWork(_)
                | Self::DuplicateShare(_)
        )
    }
}

/// What was recomputed from a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBatch<'a> {
    pub batch: Batch<'a>,
    /// The header hashes in the order of the shares.
    pub header_hashes: Vec<Hash256>,
}

/// What the shares on one template of a batch have in common, and what tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateShares {
    pub template: PricedTemplate,
    /// The lowest exponent among them.
    pub exponent_min: Exponent,
    /// The first [`FINGERPRINT_LEN`] bytes of each header hash, in the order of the shares.
    pub fingerprints: Vec<u8>,
}

/// A hash's first bytes are its least significant ones: no work has been done to choose them.
pub const FINGERPRINT_LEN: usize = 16;

impl VerifiedBatch<'_> {
    /// Sorts the shares by their entry in the table of templates, in its order.
    #[must_use]
    pub fn template_shares(&self) -> Vec<TemplateShares> {
        let mut sorted: Vec<TemplateShares> = Vec::with_capacity(self.batch.head.templates.len());
        for (share, hash) in self.batch.shares.iter().zip(&self.header_hashes) {
            // Entries are in the order of first use: a share's is there, or the next one.
            let at = usize::from(share.template);
            if at == sorted.len() {
                sorted.push(TemplateShares {
                    template: self.batch.head.templates[at],
                    exponent_min: share.exponent,
                    fingerprints: Vec::new(),
                });
            }
            let of_template = &mut sorted[at];
            of_template.exponent_min = of_template.exponent_min.min(share.exponent);
            of_template.fingerprints.extend_from_slice(&hash.as_bytes()[..FINGERPRINT_LEN]);
        }
        sorted
    }
}

/// Recomputes everything that a batch claims: form, signature, sums, root, and of each share the
/// coinbase with its owner tag, the merkle root, the header and its hash.
///
/// Args: `body` gives the encoded template body of a digest.
///
/// # Errors
/// [`BatchError`] names the first thing that is not as claimed.
pub fn verify_batch<'a, 'b>(
    blob: &'a [u8],
    body: impl Fn(&[u8; 32]) -> Option<&'b [u8]>,
) -> Result<VerifiedBatch<'a>, BatchError> {
    verify_decoded(Batch::decode(blob)?, body)
}

/// Does what is left of [`verify_batch`] when a batch is decoded.
///
/// # Errors
/// [`BatchError`] names the first thing that is not as claimed.
pub fn verify_decoded<'a, 'b>(
    batch: Batch<'a>,
    body: impl Fn(&[u8; 32]) -> Option<&'b [u8]>,
) -> Result<VerifiedBatch<'a>, BatchError> {
    radpool_identity::verify(&batch.head.msp_key, &batch.hash, &batch.signature)
        .map_err(|_| BatchError::Signature)?;
    check_sums(&batch)?;
    let mut templates = Vec::with_capacity(batch.head.templates.len());
    for (index, template) in batch.head.templates.iter().enumerate() {
        let encoded = body(&template.digest).ok_or(BatchError::TemplateMissing(index))?;
        if TemplateBody::digest_of(encoded) != template.digest {
            return Err(BatchError::TemplateDigest(index));
        }
        let body = TemplateBody::decode(encoded);
        templates.push(Template::new(body.map_err(|_| BatchError::TemplateShape(index))?));
    }
    let mut header_hashes = Vec::with_capacity(batch.shares.len());
    let hashed = hash_shares(&batch, &templates, &mut header_hashes);
    // A repeated header comes before what is wrong with a share behind it.
    if let Some(index) = first_repeat(&header_hashes) {
        return Err(BatchError::DuplicateShare(index));
    }
    hashed?;
    Ok(VerifiedBatch { batch, header_hashes })
}

/// Writes the coinbase, without witness, of one share of a batch; `None` when there is no such share
/// or its template body is not given or malformed. Nothing is verified.
pub fn coinbase_of<'b>(
    batch: &Batch<'_>,
    index: usize,
    body: impl Fn(&[u8; 32]) -> Option<&'b [u8]>,
) -> Option<Vec<u8>> {
    let share = batch.shares.get(index)?;
    let owner = batch.head.owners.get(usize::from(share.owner))?;
    let template = batch.head.templates.get(usize::from(share.template))?;
    let body = TemplateBody::decode(body(&template.digest)?).ok()?;
    let mut coinbase = Vec::new();
    body.write_coinbase(share.extranonce, &owner.tag(share.exponent).to_output(), &mut coinbase);
    Some(coinbase)
}

fn check_sums(batch: &Batch<'_>) -> Result<(), BatchError> {
    let mut sum = Earned::default();
    for share in &batch.shares {
        sum.work = sum.work.checked_add(share.exponent.work()).ok_or(BatchError::WorkSum)?;
    }
    if sum.work != batch.head.work {
        return Err(BatchError::WorkSum);
    }
    let mut earned = Vec::with_capacity(batch.shares.len());
    for share in &batch.shares {
        let value = batch.head.value_of(share).ok_or(BatchError::ValueSum)?;
        sum.value = sum.value.checked_add(value).ok_or(BatchError::ValueSum)?;
        earned.push(Earned { work: share.exponent.work(), value });
    }
    if sum.value != batch.head.value {
        return Err(BatchError::ValueSum);
    }
    let root = if batch.head.weight.is_some() {
        let tree = SumTree::<Earned>::default();
        tree.root(tree.leaves(&batch.records, &earned)).map(|root| root.hash)
    } else {
        let tree = SumTree::<Work>::default();
        let work: Vec<_> = earned.iter().map(|earned| earned.work).collect();
        tree.root(tree.leaves(&batch.records, &work)).map(|root| root.hash)
    };
    if root == Some(batch.head.root) { Ok(()) } else { Err(BatchError::Root) }
}

/// A template body, with what its coinbases begin with already hashed.
struct Template {
    body: TemplateBody,
    prefix: Midstate,
}

impl Template {
    fn new(body: TemplateBody) -> Self {
        let mut prefix = Midstate::START;
        prefix.take_blocks(&body.coinbase_prefix);
        Self { body, prefix }
    }
}

/// The last script of each owner: its exponent rarely changes.
struct OwnerScripts(Vec<Option<(Exponent, [u8; OWNER_SCRIPT_LEN])>>);

impl OwnerScripts {
    fn get(&mut self, owner: &Owner, share: &Share<'_>) -> [u8; OWNER_SCRIPT_LEN] {
        let last = &mut self.0[usize::from(share.owner)];
        match *last {
            Some((exponent, script)) if exponent == share.exponent => script,
            _ => last.insert((share.exponent, owner.tag(share.exponent).to_script())).1,
        }
    }
}

/// Hashes the headers of the shares in their order, up to the first that is not as it should be.
fn hash_shares(
    batch: &Batch<'_>,
    templates: &[Template],
    hashes: &mut Vec<Hash256>,
) -> Result<(), BatchError> {
    let mut scripts = OwnerScripts(vec![None; batch.head.owners.len()]);
    let mut coinbases: [Vec<u8>; ABREAST] = Default::default();
    // Decoding has checked that the indices are within the tables.
    let template_of = |share: &Share<'_>| &templates[usize::from(share.template)];
    for shares in batch.shares.chunks(ABREAST) {
        let first = hashes.len();
        let mut count = 0;
        let mut fault = Ok(());
        for (index, (share, coinbase)) in (first..).zip(shares.iter().zip(&mut coinbases)) {
            let script = scripts.get(&batch.head.owners[usize::from(share.owner)], share);
            fault = write_checked(index, share, &template_of(share).body, &script, coinbase);
            if fault.is_err() {
                break;
            }
            count += 1;
        }
        let shares = &shares[..count];
        let found = hash_abreast(shares, &coinbases, template_of);
        for (index, (share, hash)) in (first..).zip(shares.iter().zip(found)) {
            if !share.exponent.is_met_by(&hash) {
                return Err(BatchError::InsufficientWork(index));
            }
            hashes.push(hash);
        }
        fault?;
    }
    Ok(())
}

/// Writes the coinbase of a share and checks all that can be said of the share without a hash.
fn write_checked(
    index: usize,
    share: &Share<'_>,
    body: &TemplateBody,
    owner_script: &[u8; OWNER_SCRIPT_LEN],
    coinbase: &mut Vec<u8>,
) -> Result<(), BatchError> {
    if (share.version ^ body.version) & !VERSION_MASK != 0 {
        return Err(BatchError::VersionBits(index));
    }
    let mut output = [0; crate::OWNER_OUTPUT_LEN];
    output[8] = OWNER_SCRIPT_LEN as u8;
    output[9..].copy_from_slice(owner_script);
    coinbase.clear();
    body.write_coinbase(share.extranonce, &output, coinbase);
    let extranonce_at = (body.coinbase_prefix.len(), share.extranonce.len());
    check_coinbase(coinbase, extranonce_at, body.height, owner_script).map_err(
        |fault| match fault {
            CoinbaseFault::Shape => BatchError::Coinbase(index),
            CoinbaseFault::Height => BatchError::Height(index),
            CoinbaseFault::OwnerTag => BatchError::OwnerTag(index),
        },
    )
}

/// Hashes the headers of up to [`ABREAST`] shares whose coinbases are written.
fn hash_abreast<'a>(
    shares: &[Share<'_>],
    coinbases: &[Vec<u8>; ABREAST],
    template_of: impl Fn(&Share<'_>) -> &'a Template,
) -> [Hash256; ABREAST] {
    let count = shares.len();
    let mut hashes = [Hash256::default(); ABREAST];
    let mut states = [Midstate::START; ABREAST];
    let mut rests: [&[u8]; ABREAST] = [&[]; ABREAST];
    let mut paths: [&[[u8; 32]]; ABREAST] = [&[]; ABREAST];
    for (at, (share, coinbase)) in shares.iter().zip(coinbases).enumerate() {
        let Template { body, prefix } = template_of(share);
        states[at] = *prefix;
        rests[at] = &coinbase[prefix.len()..];
        paths[at] = &body.merkle_path;
    }
    sha256d_abreast(&states[..count], &rests[..count], &mut hashes[..count]);
    merkle_roots_abreast(&mut hashes[..count], &paths[..count]);
    let mut headers = [[0; 80]; ABREAST];
    for ((header, share), root) in headers.iter_mut().zip(shares).zip(&hashes) {
        let body = &template_of(share).body;
        header[..4].copy_from_slice(&share.version.to_le_bytes());
        header[4..36].copy_from_slice(&body.prev_hash);
        header[36..68].copy_from_slice(root.as_bytes());
        header[68..72].copy_from_slice(&share.ntime.to_le_bytes());
        header[72..76].copy_from_slice(&body.nbits.to_le_bytes());
        header[76..].copy_from_slice(&share.nonce.to_le_bytes());
    }
    let headers: [&[u8]; ABREAST] = headers.each_ref().map(<[u8; 80]>::as_slice);
    sha256d_abreast(&[Midstate::START; ABREAST][..count], &headers[..count], &mut hashes[..count]);
    hashes
}

/// Finds the first hash that stands before itself.
///
/// By sorting and not by a table: whoever made the batch may have chosen hashes that would fall into
/// one place of it.
fn first_repeat(hashes: &[Hash256]) -> Option<usize> {
    let mut sorted: Vec<(u64, usize)> = hashes
        .iter()
        .enumerate()
        .map(|(index, hash)| {
            (u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes")), index)
        })
        .collect();
    sorted.sort_unstable();
    // Within hashes that begin alike there may be several that are not the same.
    let runs = sorted.chunk_by(|one, other| one.0 == other.0).filter(|run| run.len() > 1);
    let repeats = runs.filter_map(|run| {
        let mut seen = HashSet::new();
        run.iter().map(|(_, index)| *index).find(|index| !seen.insert(hashes[*index]))
    });
    repeats.min()
}
