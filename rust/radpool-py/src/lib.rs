//! The Python module radpool_sv2._native: the only crate that knows PyO3.
//!
//! Bytes or frozen classes cross this border, in batches; no secret, no panic and no lock does.

mod argument;
mod batch;
mod ecash;
mod ecash_claim;
mod ecash_wallet;
mod engine;
mod error;
mod event;
mod ipc;
mod keys;
mod ledger;
mod miner;
mod receipt;
mod setting;
mod template;
mod threshold;
mod threshold_link;
mod translator;
mod wire;
mod work;

use pyo3::prelude::*;

/// Submodules by name, as `register_submodules` makes them importable.
const SUBMODULES: [&str; 11] = [
    "ecash",
    "engine",
    "event",
    "ipc",
    "keys",
    "ledger",
    "miner",
    "template",
    "threshold",
    "translator",
    "wire",
];

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule]
    mod ecash {
        #[pymodule_export]
        use crate::{
            ecash::{
                KeysetKeys, MintSeed, blind, check_points, denominate, hash_to_curve, keyset_id,
                unblind, verify_proof_dleqs, verify_signature_dleqs,
            },
            ecash_claim::{ClaimBatch, ClaimSlot, Claimants, claims_path, claims_root},
            ecash_wallet::{DerivedOutputs, WalletSeed},
        };
    }

    #[pymodule]
    mod engine {
        #[pymodule_export]
        use crate::{
            batch::ShareBatch,
            engine::{Drained, Engine},
            event::{
                BlockFound, ChannelClosed, ChannelFailed, ChannelOpened, ChannelReport,
                ChannelRequested, ChannelUpdated, CustomJobFailed, CustomJobRequested,
                Disconnected, EngineFailed, ExponentChanged, ExponentWanted, ExtensionFrame,
                ExtensionsNegotiated, PrefixesLow, RepeatedShare, SetUp, Sv1TurnedAway,
                WorkerNamed,
            },
            receipt::{group_attachments, run_receipts},
            setting::EngineSettings,
            work::{Template, Tip},
        };

        #[pymodule_init]
        fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
            crate::event::add_union(module)
        }
    }

    #[pymodule]
    mod ipc {
        #[pymodule_export]
        use crate::ipc::{Capabilities, CoreNode, CoreTemplate, Failure, Verdict};
    }

    #[pymodule]
    mod event {
        #[pymodule_export]
        use crate::event::{
            BlockFound, ChannelClosed, ChannelFailed, ChannelOpened, ChannelReport,
            ChannelRequested, ChannelUpdated, CustomJobFailed, CustomJobRequested, Disconnected,
            EngineFailed, ExponentChanged, ExponentWanted, ExtensionFrame, ExtensionsNegotiated,
            PrefixesLow, RepeatedShare, SetUp, Sv1TurnedAway, WorkerNamed,
        };

        #[pymodule_init]
        fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
            crate::event::add_union(module)
        }
    }

    #[pymodule]
    mod keys {
        #[pymodule_export]
        use crate::keys::{
            AuthorityPublicKey, AuthoritySecretKey, Certificate, ServerIdentity, StaticKey,
        };
    }

    #[pymodule]
    mod ledger {
        #[pymodule_export]
        use crate::ledger::{
            BatchSummary, Fingerprints, MspKey, SealedBatch, share_coinbase, template_sums,
            verify_batch,
        };
    }

    #[pymodule]
    mod miner {
        #[pymodule_export]
        use crate::miner::{Carrier, Miner, MinerStats, News};
    }

    #[pymodule]
    mod template {
        #[pymodule_export]
        use crate::template::{Declaration, Selection, TransactionCache, parse_transaction_ids};

        #[pymodule_init]
        fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
            use pyo3::types::PyModuleMethods;
            module.add("TRANSACTIONS_MAX", radpool_template::TRANSACTIONS_MAX)
        }
    }

    #[pymodule]
    mod threshold {
        #[pymodule_export]
        use crate::{
            threshold::{
                Commitment, Dealing, Dealt, IdentityKey, KeyShare, NoncePool, PublicKey, Round1,
                Round1Set, Round2, Run, Session, invalid_signatures, judge, wipe_nonces,
            },
            threshold_link::{Link, TransportKey},
        };

        #[pymodule_init]
        fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
            crate::threshold::init(module)
        }
    }

    #[pymodule]
    mod translator {
        #[pymodule_export]
        use crate::translator::{
            ChannelRefused, Client, Desk, DeviceJoined, DeviceLeft, EventsDropped, TlsCertificate,
            TlsFailed, TlsIdentity, Translator, TranslatorSettings, UpstreamEnded, UpstreamReady,
            Worker,
        };
    }

    #[pymodule]
    mod wire {
        #[pymodule_export]
        use crate::wire::{Initiator, Responder, Transport};
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::register_submodules(module)
    }
}

/// Makes `import radpool_sv2._native.keys` work: the import system looks a submodule up by its full
/// name, and an extension module has no folder in which it could find it.
fn register_submodules(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let modules = module.py().import("sys")?.getattr("modules")?;
    for name in SUBMODULES {
        modules.set_item(format!("radpool_sv2._native.{name}"), module.getattr(name)?)?;
    }
    Ok(())
}
