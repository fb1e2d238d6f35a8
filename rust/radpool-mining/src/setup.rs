//! SetupConnection.

use radpool_units::Now;
use radpool_wire::{
    error_code,
    message::{Message, Protocol, SetupConnection, SetupConnectionError, SetupConnectionSuccess},
};

use crate::{
    CloseReason, Connection, Event, Outbox,
    connection::{Phase, send},
    counters::count,
};

/// The only version of the protocol.
const VERSION: u16 = 2;

// What a client asks for. Source: sv2-spec, section 5.3.1.
const REQUIRES_STANDARD_JOBS: u32 = 1 << 0;
const REQUIRES_WORK_SELECTION: u32 = 1 << 1;
const REQUIRES_VERSION_ROLLING: u32 = 1 << 2;

// What a server answers.
const REQUIRES_FIXED_VERSION: u32 = 1 << 0;
const REQUIRES_EXTENDED_CHANNELS: u32 = 1 << 1;

impl Connection {
    pub(crate) fn on_setup(&mut self, setup: SetupConnection, now: Now, out: &mut Outbox) {
        let version_rolling = self.shared.settings.version_rolling;
        let rolling_flag = if version_rolling { REQUIRES_VERSION_ROLLING } else { 0 };
        let work_selection =
            self.shared.settings.work_selection && setup.flags & REQUIRES_WORK_SELECTION != 0;
        // Whoever selects the work has extended channels only, so nothing with standard jobs.
        let work_flag =
            if work_selection { REQUIRES_WORK_SELECTION } else { REQUIRES_STANDARD_JOBS };
        let unsupported = setup.flags & !(work_flag | rolling_flag);
        let refusal = if setup.protocol != Protocol::Mining {
            // Flags mean something else in each protocol, so none of them is judged.
            Some((error_code::UNSUPPORTED_PROTOCOL, 0))
        } else if !(setup.min_version..=setup.max_version).contains(&VERSION) {
            Some((error_code::PROTOCOL_VERSION_MISMATCH, 0))
        } else if unsupported != 0 {
            // All of them, undefined ones too: a client that sets every flag learns what is there.
            Some((error_code::UNSUPPORTED_FEATURE_FLAGS, unsupported))
        } else {
            None
        };
        if let Some((code, flags)) = refusal {
            let error = SetupConnectionError { flags, error_code: code.into() };
            send(&Message::SetupConnectionError(error), out);
            return self.close(CloseReason::SetupRefused, now, out);
        }
        let mut flags = if version_rolling { 0 } else { REQUIRES_FIXED_VERSION };
        if work_selection {
            flags |= REQUIRES_EXTENDED_CHANNELS;
        }
        let success = SetupConnectionSuccess { used_version: VERSION, flags };
        send(&Message::SetupConnectionSuccess(success), out);
        self.phase = Phase::SetUp;
        self.standard_jobs = setup.flags & REQUIRES_STANDARD_JOBS != 0;
        self.work_selection = work_selection;
        self.expect_channel(now);
        count(&self.shared.counters.connections_set_up, 1);
        out.events.push(Event::SetUp {
            flags: setup.flags,
            vendor: setup.vendor,
            hardware_version: setup.hardware_version,
            firmware: setup.firmware,
            device_id: setup.device_id,
        });
    }
}
