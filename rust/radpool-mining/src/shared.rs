//! What all connections of a pool have in common.

use std::sync::Arc;

use parking_lot::RwLock;
use radpool_units::Exponent;

use crate::{
    Counters, PrefixPool, SeenShares, Settings, SettingsError, Template, Tip, Work, WorkError,
    work::JobSource,
};

/// What all connections of a pool have in common: one per pool, behind an `Arc`.
#[derive(Debug)]
pub struct Shared {
    pub settings: Settings,
    pub seen: SeenShares,
    pub prefixes: PrefixPool,
    pub work: RwLock<Arc<Work>>,
    pub counters: Counters,
    /// Laid out templates that are current or still referred to by a job.
    sources: RwLock<Vec<Arc<JobSource>>>,
}

impl Shared {
    /// Makes the state of a pool without work and without prefixes. `seen_key` is 16 random bytes
    /// that no client knows.
    ///
    /// # Errors
    /// [`SettingsError`] when no pool can run with the settings.
    pub fn new(settings: Settings, seen_key: [u8; 16]) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self {
            seen: SeenShares::new(seen_key, settings.limits.seen),
            settings,
            prefixes: PrefixPool::default(),
            work: RwLock::default(),
            counters: Counters::default(),
            sources: RwLock::default(),
        })
    }

    /// Makes a template current together with its tip, or future without one. Connections hear of it
    /// when [`Connection::handle_work`](crate::Connection::handle_work) is called on them.
    ///
    /// # Errors
    /// [`WorkError`] when no valid job can be made of it; the work stays as it was.
    pub fn publish_template(&self, template: Template, tip: Option<Tip>) -> Result<(), WorkError> {
        template.check(&self.settings)?;
        let Some(tip) = tip else {
            self.change_work(|work| work.future = Some(Arc::new(template)));
            return Ok(());
        };
        if tip.template_id != template.id {
            let (tip, template) = (tip.template_id, template.id);
            return Err(WorkError::OtherTemplate { tip, template });
        }
        tip.check()?;
        self.seen.prepare(&tip.prev_hash);
        self.change_work(|work| {
            if work.active.as_ref().is_none_or(|(_, old)| old.prev_hash != tip.prev_hash) {
                // The tip that the future template waited for has been passed over.
                work.future = None;
            }
            work.active = Some((Arc::new(template), tip));
        });
        Ok(())
    }

    /// Makes the future template current, on the tip that has come.
    ///
    /// # Errors
    /// [`WorkError`] when the tip names another template or is not one; the work stays as it was.
    pub fn activate_template(&self, tip: Tip) -> Result<(), WorkError> {
        tip.check()?;
        let mut work = self.work.write();
        let Some(future) = &work.future else {
            return Err(WorkError::NoTemplate(tip.template_id));
        };
        if future.id != tip.template_id {
            let (tip, template) = (tip.template_id, future.id);
            return Err(WorkError::OtherTemplate { tip, template });
        }
        let active = Some((Arc::clone(future), tip));
        let generation = work.generation + 1;
        *work = Arc::new(Work { active, future: None, floor: work.floor, generation });
        drop(work);
        self.seen.prepare(&tip.prev_hash);
        self.forget_sources();
        Ok(())
    }

    /// Gives no channel easier steps than this one from now on, whatever the settings say.
    /// Connections hear of it when [`Connection::handle_work`](crate::Connection::handle_work) is
    /// called on them.
    pub fn set_floor(&self, floor: Exponent) {
        self.change_work(|work| work.floor = floor);
    }

    /// What is to be worked on now.
    #[must_use]
    pub fn current_work(&self) -> Arc<Work> {
        Arc::clone(&self.work.read())
    }

    /// A template laid out for an extranonce size, shared by all who ask for the same.
    pub(crate) fn source(
        &self,
        template: &Arc<Template>,
        tip: Option<Tip>,
        extranonce_len: u8,
    ) -> Arc<JobSource> {
        let find = |sources: &[Arc<JobSource>]| {
            let mut found = sources.iter().rev();
            found.find(|source| source.is_of(template, tip.as_ref(), extranonce_len)).cloned()
        };
        if let Some(source) = find(&self.sources.read()) {
            return source;
        }
        let mut sources = self.sources.write();
        if let Some(source) = find(&sources) {
            return source;
        }
        let source = Arc::new(JobSource::new(template, tip, extranonce_len, &self.settings));
        sources.push(Arc::clone(&source));
        source
    }

    fn change_work(&self, change: impl FnOnce(&mut Work)) {
        let mut work = self.work.write();
        let mut next = Work::clone(&work);
        change(&mut next);
        next.generation += 1;
        *work = Arc::new(next);
        drop(work);
        self.forget_sources();
    }

    /// Drops laid out templates that no job refers to any more.
    fn forget_sources(&self) {
        self.sources.write().retain(|source| Arc::strong_count(source) > 1);
    }
}
