//! What miners work on: the template and the tip below it, as one unit.

use std::sync::Arc;

use radpool_ledger::{OWNER_OUTPUT_LEN, TemplateBody};
use radpool_units::{CompactTargetError, Exponent, Target};
use thiserror::Error;

use crate::{
    output::{count_outputs, push_compact_size},
    settings::{PREFIX_LEN, SCRIPT_SIG_MAX, Settings},
};

/// Longest merkle path: far above the 14 siblings of the fullest block, far below what hurts.
pub(crate) const MERKLE_PATH_MAX: usize = 32;

/// Longest coinbase part that a job message can carry.
const COINBASE_PART_MAX: usize = 0xffff;

/// Longest push that an opcode of one byte can make.
const PUSH_MAX: usize = 75;

/// A block template as its source made it, with the pool's outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub id: u64,
    /// Accounting period that shares of this template count in.
    pub epoch: u32,
    pub height: u32,
    pub version: u32,
    pub coinbase_tx_version: u32,
    /// Start of the coinbase's scriptSig: the push of the height.
    pub coinbase_prefix: Vec<u8>,
    pub coinbase_sequence: u32,
    /// Serialised outputs that carry the block's value.
    pub pool_outputs: Vec<u8>,
    pub pool_output_count: u16,
    /// Serialised outputs that the source demands, witness commitment last.
    pub template_outputs: Vec<u8>,
    pub template_output_count: u16,
    pub coinbase_locktime: u32,
    /// Siblings of the coinbase on the way to the merkle root, from the leaves up.
    pub merkle_path: Vec<[u8; 32]>,
    /// What takes the place of the owner tag, when another pool pays for the shares: serialised
    /// outputs, possibly none. Shares then count by the exponent that their channel has.
    pub owner_output: Option<Arc<[u8]>>,
    /// What stands between the push of the extranonce and the channels' prefixes: the extranonce
    /// that another pool has fixed.
    pub extranonce_head: Vec<u8>,
}

/// The block that a template builds on, and what its header must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The template that this tip makes current.
    pub template_id: u64,
    /// Hash of the block below, internal byte order.
    pub prev_hash: [u8; 32],
    pub min_ntime: u32,
    pub nbits: u32,
    /// What a solution's hash must not exceed; on a demo chain harder than `nbits`.
    pub target: Target,
    /// What a unit of work on the template is worth; it goes with each share.
    pub price: u128,
}

/// What the pool works on at a moment. Template and tip are one unit, so nobody ever joins the new
/// tip with the old template; a connection compares this with what it has sent.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// What is mined now; `None` until the first template.
    pub active: Option<(Arc<Template>, Tip)>,
    /// What is going to be mined on the next tip.
    pub future: Option<Arc<Template>>,
    /// The easiest step that any channel is given, whatever the settings say.
    pub floor: Exponent,
    /// Grows with each change.
    pub generation: u64,
}

/// A template or tip that no job can be made of: the template source's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WorkError {
    /// The tip names another template than the one beside it, or than the future one.
    #[error("the tip names template {tip}, the one at hand is {template}: publish both together")]
    OtherTemplate { tip: u64, template: u64 },
    /// A tip came without any future template.
    #[error("the tip names template {0}, but none is waiting: publish both together")]
    NoTemplate(u64),
    /// The scriptSig would be longer than consensus allows.
    #[error("template {template}: the scriptSig would have {len} bytes, at most 100 are valid")]
    ScriptSig { template: u64, len: usize },
    /// The extranonce and what stands before it do not fit one push.
    #[error("template {template}: a push of {len} bytes for the extranonce, at most 75 fit one")]
    ExtranonceHead { template: u64, len: usize },
    /// A coinbase part is longer than a job message can say.
    #[error("template {template}: {len} bytes behind the extranonce, a job carries at most 65535")]
    CoinbaseSuffix { template: u64, len: usize },
    /// Outputs that are not as many as announced.
    #[error("template {template}: the {which} outputs are not {count} whole transaction outputs")]
    Outputs { template: u64, which: &'static str, count: u16 },
    /// An owner output that is none.
    #[error("template {template}: the owner output is not made of whole transaction outputs")]
    OwnerOutput { template: u64 },
    /// A merkle path longer than any block needs.
    #[error("template {template}: a merkle path of {len} hashes, at most 32 make sense")]
    MerklePath { template: u64, len: usize },
    /// `nBits` that is no target.
    #[error(transparent)]
    Compact(#[from] CompactTargetError),
    /// A target that consensus would not accept.
    #[error("template {template}: its target is easier than its nBits {nbits:#010x}")]
    TargetTooEasy { template: u64, nbits: u32 },
}

impl Template {
    /// Checks that jobs can be made of the template, whatever extranonce size a channel has.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), WorkError> {
        let template = self.id;
        let extranonce_max = PREFIX_LEN + usize::from(settings.rollable_max());
        let push = self.extranonce_head.len() + extranonce_max;
        if push > PUSH_MAX {
            return Err(WorkError::ExtranonceHead { template, len: push });
        }
        let script_sig = self.script_sig_len(settings, extranonce_max);
        if script_sig > SCRIPT_SIG_MAX {
            return Err(WorkError::ScriptSig { template, len: script_sig });
        }
        for (which, outputs, count) in [
            ("pool", &self.pool_outputs, self.pool_output_count),
            ("template", &self.template_outputs, self.template_output_count),
        ] {
            if count_outputs(outputs) != Some(count.into()) {
                return Err(WorkError::Outputs { template, which, count });
            }
        }
        let Some(owner_output_len) = self.owner_output_len() else {
            return Err(WorkError::OwnerOutput { template });
        };
        // Sequence, the longest count of outputs, lock time.
        let fixed = 4 + 3 + owner_output_len + 4;
        let len = fixed + self.pool_outputs.len() + self.template_outputs.len();
        if len > COINBASE_PART_MAX {
            return Err(WorkError::CoinbaseSuffix { template, len });
        }
        if self.merkle_path.len() > MERKLE_PATH_MAX {
            return Err(WorkError::MerklePath { template, len: self.merkle_path.len() });
        }
        Ok(())
    }

    fn script_sig_len(&self, settings: &Settings, extranonce_len: usize) -> usize {
        let text_push = usize::from(!settings.pool_text.is_empty());
        let text = text_push + settings.pool_text.len();
        self.coinbase_prefix.len() + text + 1 + self.extranonce_head.len() + extranonce_len
    }

    /// Length of what stands where the owner tag does; `None` when it is not made of outputs.
    fn owner_output_len(&self) -> Option<usize> {
        match &self.owner_output {
            Some(outputs) => count_outputs(outputs).map(|_| outputs.len()),
            None => Some(OWNER_OUTPUT_LEN),
        }
    }

    /// How many outputs stand where the owner tag does, in a checked template.
    fn owner_output_count(&self) -> u16 {
        let outputs = self.owner_output.as_ref();
        // Fits: an output has at least 9 of 65,535 bytes.
        outputs.map_or(1, |outputs| count_outputs(outputs).unwrap_or(0) as u16)
    }
}

impl Tip {
    /// Checks that a block on this tip can be valid.
    pub(crate) fn check(&self) -> Result<(), WorkError> {
        if self.target > Target::from_compact(self.nbits)? {
            let (template, nbits) = (self.template_id, self.nbits);
            return Err(WorkError::TargetTooEasy { template, nbits });
        }
        Ok(())
    }
}

/// A template, on its tip or still to come, laid out for one extranonce size: what jobs are made of.
/// One exists for all channels of the pool.
#[derive(Debug)]
pub(crate) struct JobSource {
    pub(crate) template_id: u64,
    /// `None` for a custom job.
    pub(crate) template: Option<Arc<Template>>,
    /// `None` for a future job.
    pub(crate) tip: Option<Tip>,
    pub(crate) extranonce_len: u8,
    /// Of a future job it has neither previous hash nor `nBits`.
    pub(crate) body: Arc<TemplateBody>,
}

impl JobSource {
    /// Lays out a checked template.
    pub(crate) fn new(
        template: &Arc<Template>,
        tip: Option<Tip>,
        extranonce_len: u8,
        settings: &Settings,
    ) -> Self {
        let body = TemplateBody {
            version: template.version,
            prev_hash: tip.map_or([0; 32], |tip| tip.prev_hash),
            nbits: tip.map_or(0, |tip| tip.nbits),
            height: template.height,
            coinbase_prefix: coinbase_prefix(template, settings, extranonce_len),
            coinbase_before_tag: coinbase_before_tag(template),
            coinbase_after_tag: coinbase_after_tag(template),
            merkle_path: template.merkle_path.clone(),
        };
        let (template_id, template) = (template.id, Some(Arc::clone(template)));
        Self { template_id, template, tip, extranonce_len, body: Arc::new(body) }
    }

    /// Whether this was laid out of the same template object.
    pub(crate) fn is_made_of(&self, template: &Arc<Template>) -> bool {
        self.template.as_ref().is_some_and(|own| Arc::ptr_eq(own, template))
    }

    /// Whether this was laid out of the same template object on the same tip for that size.
    pub(crate) fn is_of(
        &self,
        template: &Arc<Template>,
        tip: Option<&Tip>,
        extranonce_len: u8,
    ) -> bool {
        self.is_made_of(template)
            && self.tip.as_ref() == tip
            && self.extranonce_len == extranonce_len
    }
}

fn coinbase_prefix(template: &Template, settings: &Settings, extranonce_len: u8) -> Vec<u8> {
    let script_sig_len = template.script_sig_len(settings, extranonce_len.into());
    let mut bytes = coinbase_start(template.coinbase_tx_version, script_sig_len);
    bytes.extend_from_slice(&template.coinbase_prefix);
    if !settings.pool_text.is_empty() {
        bytes.push(settings.pool_text.len() as u8);
        bytes.extend_from_slice(&settings.pool_text);
    }
    bytes.push((template.extranonce_head.len() + usize::from(extranonce_len)) as u8);
    bytes.extend_from_slice(&template.extranonce_head);
    bytes
}

/// Writes a coinbase up to the script of its input, whose length was checked to be at most 100.
pub(crate) fn coinbase_start(tx_version: u32, script_sig_len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(42 + script_sig_len);
    bytes.extend_from_slice(&tx_version.to_le_bytes());
    bytes.push(1);
    bytes.extend_from_slice(&[0; 32]);
    bytes.extend_from_slice(&[0xff; 4]);
    // One byte of CompactSize.
    bytes.push(script_sig_len as u8);
    bytes
}

fn coinbase_before_tag(template: &Template) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(7 + template.pool_outputs.len());
    bytes.extend_from_slice(&template.coinbase_sequence.to_le_bytes());
    // Fits: together these outputs fill at most 64 KiB.
    let others = template.pool_output_count + template.template_output_count;
    push_compact_size(&mut bytes, others + template.owner_output_count());
    bytes.extend_from_slice(&template.pool_outputs);
    bytes
}

fn coinbase_after_tag(template: &Template) -> Vec<u8> {
    let mut bytes = template.template_outputs.clone();
    bytes.extend_from_slice(&template.coinbase_locktime.to_le_bytes());
    bytes
}
