//! Load generators for Stratum V2 pools: shares, fan-out, idle connections, connect storms, and
//! the floors that figures are compared with. Devices of Stratum V1 for translators too.
//!
//! Every subcommand prints JSON lines on stdout. Shares are real and every one must be acknowledged
//! exactly once: a run in which one is not ends with status 1, whatever its speed was.

mod acknowledged;
mod arguments;
mod batches;
mod claims;
mod fanout;
mod floor;
mod idle;
mod machine;
mod peer;
mod report;
mod shares;
mod signatures;
mod sink;
mod storm;
mod sv1;
mod threshold;

use std::process::ExitCode;

use arguments::Arguments;

const USAGE: &str = "\
radpool-load SUBCOMMAND [--OPTION VALUE]...

  shares  --connect HOST:PORT --key KEY [--connections 1] [--window 64] [--shares 100000] [--rate R]
          [--kind extended] [--acknowledged FILE] [--sums checked] [--claims none]
          Without --rate a closed loop: each connection keeps WINDOW shares unanswered. With it an
          open loop: R shares per second in all, and the time until each is acknowledged.
          --sums ignored is for pools that count work in another way.
          --claims eager opens ecash channels and lets each share claim a token; with lazy the
          pool signs none of them before it is asked to.
          FILE gets the hash of each acknowledged share, 32 bytes, before it is counted.
  fanout  --connect HOST:PORT --key KEY [--connections 1000] [--tips 10] [--joiners 0]
          [--join-rate 200]
          One channel a connection; stamps the arrival of each new tip (CLOCK_MONOTONIC).
          JOINERS further clients join meanwhile.
  idle    --connect HOST:PORT --key KEY [--connections 1000] [--waves 1]
          One channel a connection; holds each wave until a line comes on stdin.
  storm   --connect HOST:PORT --key KEY [--connections 1000]
          Connects all at once; counts until every one has its first job.
  sv1-shares --connect HOST:PORT [--user load] [--connections 1] [--window 16] [--shares 100000]
          [--period-ms MS]
          Devices of Stratum V1, workers of one user. Their shares are found first; the run begins
          when a line comes on stdin. Without --period-ms a closed loop: each device keeps WINDOW
          shares unanswered. With it each device sends a share every MS, whatever is answered.
  sv1-fanout --connect HOST:PORT [--user load] [--connections 1000] [--tips 10]
          Stamps the arrival of each new previous hash (CLOCK_MONOTONIC), with clean_jobs.
  sv1-idle   --connect HOST:PORT [--user load] [--connections 1000] [--waves 1]
          Holds each wave of devices until a line comes on stdin.
  floor   [--writes 10000] [--rounds 5] [--sink-cpu N]
          What cannot be avoided: hashing, decrypting and reading a share; encrypted writes.
  signatures [--count 4000] [--rounds 3]
          Blind signatures per second with and without proofs, on one core and on all, beside the
          bare multiplications.
  threshold [--rounds 5] [--members 50]
          Key generation and signing of committees of 4, 16 and 50, beside the plain library.
  batches --secret HEX --out FILE [--first 101] [--heights 1] [--batches 10] [--shares 1000]
          [--owners 100] [--path 12] [--script HEX]
          Writes signed batches that pay SCRIPT, BATCHES for each height, and their templates.
";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(subcommand) = words.next() else {
        return fail(USAGE);
    };
    let run = match subcommand.as_str() {
        "shares" => shares::run,
        "fanout" => fanout::run,
        "idle" => idle::run,
        "storm" => storm::run,
        "sv1-shares" => sv1::shares::run,
        "sv1-fanout" => sv1::fanout::run,
        "sv1-idle" => sv1::idle::run,
        "floor" => floor::run,
        "signatures" => signatures::run,
        "sink" => sink::run,
        "threshold" => threshold::run,
        "batches" => batches::run,
        "-h" | "--help" | "help" => {
            report::text(USAGE);
            return ExitCode::SUCCESS;
        }
        other => return fail(&format!("there is no subcommand {other}\n\n{USAGE}")),
    };
    let result = machine::raise_descriptor_limit()
        .and_then(|()| Arguments::parse(words))
        .and_then(|arguments| run(&arguments));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(text: &str) -> ExitCode {
    report::complain(text);
    ExitCode::FAILURE
}
