//! Options of the form `--name value`.

use std::{cell::RefCell, collections::BTreeMap, fmt::Display, str::FromStr};

use radpool_miner::ChannelKind;
use radpool_wire::keys::AuthorityPublicKey;

use crate::peer::Pool;

/// The options of a command line. Those that nobody has asked for are mistakes.
#[derive(Debug)]
pub(crate) struct Arguments {
    values: RefCell<BTreeMap<String, String>>,
}

impl Arguments {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        let mut words = words;
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or(format!("{word} is no option"))?;
            let value = words.next().ok_or(format!("--{name} needs a value"))?;
            if values.insert(name.to_string(), value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Self { values: RefCell::new(values) })
    }

    /// Takes an option, or its default.
    pub(crate) fn take<T: FromStr<Err: Display>>(
        &self,
        name: &str,
        default: T,
    ) -> Result<T, String> {
        Ok(self.take_optional(name)?.unwrap_or(default))
    }

    /// Takes an option that may be left out.
    pub(crate) fn take_optional<T: FromStr<Err: Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, String> {
        let Some(text) = self.values.borrow_mut().remove(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| format!("--{name} {text}: {error}"))
    }

    /// Takes the options that say where the pool is.
    pub(crate) fn take_pool(&self) -> Result<Pool, String> {
        let address: String =
            self.take_optional("connect")?.ok_or("--connect HOST:PORT is needed")?;
        let (host, port) = address.rsplit_once(':').ok_or("--connect needs HOST:PORT")?;
        let port = port.parse().map_err(|error| format!("--connect {address}: {error}"))?;
        let authority: Option<AuthorityPublicKey> = self.take_optional("key")?;
        let kind: String = self.take("kind", "extended".to_string())?;
        let kind = match kind.as_str() {
            "standard" => ChannelKind::Standard,
            "extended" => ChannelKind::Extended,
            other => return Err(format!("--kind {other}: it is standard or extended")),
        };
        let user = self.take("user", "load".to_string())?;
        Ok(Pool { host: host.into(), port, authority, kind, user, carrier: None })
    }

    /// Refuses options that no one has taken.
    pub(crate) fn end(&self) -> Result<(), String> {
        match self.values.borrow().keys().next() {
            Some(name) => Err(format!("there is no option --{name} here")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(|word| (*word).to_string()))
    }

    #[test]
    fn options_have_values_defaults_and_types() {
        let arguments = parse(&["--shares", "7", "--rate", "x"]).unwrap();
        assert_eq!(arguments.take("shares", 1_u64), Ok(7));
        assert_eq!(arguments.take("window", 64_u64), Ok(64));
        assert!(arguments.end().unwrap_err().contains("--rate"));
        assert!(arguments.take("rate", 1_u64).unwrap_err().contains("--rate x"));
        assert_eq!(arguments.end(), Ok(()));
    }

    #[test]
    fn slips_are_refused() {
        for words in [&["shares"][..], &["--shares"], &["--a", "1", "--a", "2"]] {
            assert!(parse(words).is_err());
        }
    }
}
