//! The node as its one consumer sees it: numbered questions in, numbered answers out.
//!
//! A thread of its own holds the connection. Questions go to it through a bounded channel; answers
//! wait in a list until the consumer, woken by a file descriptor, takes them. The list is bounded
//! too: no more questions are taken than answers may wait. One [`Node`] is one connection: when it
//! breaks, all questions are answered with that, and a new node has to be made.

use std::{
    collections::HashSet,
    io,
    os::fd::RawFd,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Builder,
    sync::mpsc::{self, error::TrySendError},
    task::{self, LocalSet},
    time::timeout,
};

use crate::{
    bell::Bell,
    block,
    error::{IpcError, RequestError},
    request::{Answer, Request},
    session::{Session, TEMPLATES_MAX},
};

/// Questions whose answers have not been taken, at most.
pub const REQUESTS_MAX: usize = 64;
/// Questions and notices on their way to the thread: each template is forgotten once and
/// interrupted a few times at most.
const COMMANDS_MAX: usize = REQUESTS_MAX + 4 * TEMPLATES_MAX;
/// How long leaving may take: a node that hangs is left without a word.
const LEAVE_MAX: Duration = Duration::from_millis(200);
/// The number of the answer that tells how connecting went.
pub const CONNECTED: u64 = 0;

/// How to reach the node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The node's unix socket.
    pub path: PathBuf,
    /// Users that may own the listening process.
    pub trusted_uids: Vec<u32>,
    /// How long connecting may take.
    pub connect_deadline_ms: u32,
}

/// An answer and the number of its question.
pub type Outcome = (u64, Result<Answer, IpcError>);

/// A connection to a node, on a thread of its own.
#[derive(Debug)]
pub struct Node {
    commands: Option<mpsc::Sender<Command>>,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    Ask { token: u64, request: Request, deadline_ms: u32 },
    InterruptWait(u64),
    Forget(u64),
}

#[derive(Debug)]
struct Desk {
    bell: Bell,
    state: Mutex<DeskState>,
}

#[derive(Debug, Default)]
struct DeskState {
    /// Questions whose answers have not been taken.
    open: HashSet<u64>,
    outcomes: Vec<Outcome>,
}

impl Desk {
    fn put(&self, token: u64, outcome: Result<Answer, IpcError>) {
        self.state.lock().outcomes.push((token, outcome));
        self.bell.ring();
    }
}

impl Node {
    /// Starts to connect; an answer with the number [`CONNECTED`] tells how that went.
    ///
    /// # Errors
    /// The system gives no thread or descriptor.
    pub fn start(settings: NodeSettings) -> io::Result<Self> {
        let state = Mutex::new(DeskState { open: [CONNECTED].into(), ..DeskState::default() });
        let desk = Arc::new(Desk { bell: Bell::new()?, state });
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let work = Arc::clone(&desk);
        let thread = thread::Builder::new().name("radpool-ipc".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, serve(settings, inbox, work));
            // What still waits in the node is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { commands: Some(commands), desk, thread: Some(thread) })
    }

    /// Readable while answers wait.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.desk.bell.descriptor()
    }

    /// Asks; the answer comes under the same number, an error [`IpcError::Late`] when it takes
    /// longer than `deadline_ms`.
    ///
    /// # Errors
    /// `RequestError` when the question cannot be asked: nothing was sent then.
    pub fn ask(&self, token: u64, request: Request, deadline_ms: u32) -> Result<(), RequestError> {
        if let Request::CheckBlock(block) | Request::SubmitBlock(block) = &request {
            block::split(block)?;
        }
        let mut state = self.desk.state.lock();
        if state.open.len() >= REQUESTS_MAX {
            return Err(RequestError::TooMany(REQUESTS_MAX));
        }
        if !state.open.insert(token) {
            return Err(RequestError::Token(token));
        }
        drop(state);
        match self.send(Command::Ask { token, request, deadline_ms }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.desk.state.lock().open.remove(&token);
                Err(RequestError::TooMany(COMMANDS_MAX))
            }
            Err(TrySendError::Closed(_)) => {
                let lost = IpcError::Disconnected("it was lost before".to_owned());
                self.desk.put(token, Err(lost));
                Ok(())
            }
        }
    }

    /// Lets a question for the next template end early.
    pub fn interrupt_wait(&self, template: u64) {
        // A wait that is not interrupted ends by its time.
        drop(self.send(Command::InterruptWait(template)));
    }

    /// Lets the node forget a template.
    pub fn forget(&self, template: u64) {
        // The node forgets all of them with the connection at the latest.
        drop(self.send(Command::Forget(template)));
    }

    /// Takes the answers that have come.
    #[must_use]
    pub fn take(&self) -> Vec<Outcome> {
        self.desk.bell.hush();
        let mut state = self.desk.state.lock();
        let outcomes = std::mem::take(&mut state.outcomes);
        for (token, _) in &outcomes {
            state.open.remove(token);
        }
        outcomes
    }

    fn send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        match &self.commands {
            Some(commands) => commands.try_send(command),
            None => Err(TrySendError::Closed(command)),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // The thread leaves at once: it only tells the node not to wait any longer.
            drop(thread.join());
        }
    }
}

async fn serve(settings: NodeSettings, mut inbox: mpsc::Receiver<Command>, desk: Arc<Desk>) {
    let deadline_ms = settings.connect_deadline_ms;
    let opening = Session::open(&settings.path, &settings.trusted_uids);
    let opened = timeout(Duration::from_millis(deadline_ms.into()), opening).await;
    match opened.unwrap_or(Err(IpcError::Late(deadline_ms))) {
        Ok(session) => {
            desk.put(CONNECTED, Ok(Answer::Connected(session.capabilities())));
            answer_all(Rc::new(session), &mut inbox, &desk).await;
        }
        Err(error) => {
            desk.put(CONNECTED, Err(error.clone()));
            while let Some(command) = inbox.recv().await {
                if let Command::Ask { token, .. } = command {
                    desk.put(token, Err(error.clone()));
                }
            }
        }
    }
}

/// Answers until the consumer leaves.
async fn answer_all(session: Rc<Session>, inbox: &mut mpsc::Receiver<Command>, desk: &Arc<Desk>) {
    let under_way = Rc::new(());
    while let Some(command) = inbox.recv().await {
        match command {
            Command::InterruptWait(template) => session.interrupt_wait(template),
            Command::Forget(template) => session.forget(template),
            // Late answers do not count as open any more, but the node still works on them.
            Command::Ask { token, .. } if Rc::strong_count(&under_way) > REQUESTS_MAX => {
                desk.put(token, Err(IpcError::Busy(REQUESTS_MAX)));
            }
            Command::Ask { token, request, deadline_ms } => {
                let (session, counted) = (Rc::clone(&session), Rc::clone(&under_way));
                let answering = task::spawn_local(async move {
                    let _counted = counted;
                    session.answer(request).await
                });
                let desk = Arc::clone(desk);
                task::spawn_local(async move {
                    desk.put(token, in_time(answering, deadline_ms).await);
                });
            }
        }
    }
    session.interrupt();
    // An answer means that the node has read the interruptions, which went ahead of the question.
    let _ = timeout(LEAVE_MAX, session.answer(Request::Tip)).await;
}

/// Waits for an answer, not longer than it may take. A call is never abandoned in the node: what
/// comes late is dropped here.
async fn in_time(
    answering: task::JoinHandle<Result<Answer, IpcError>>,
    deadline_ms: u32,
) -> Result<Answer, IpcError> {
    match timeout(Duration::from_millis(deadline_ms.into()), answering).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(IpcError::Nonsense(format!("the answer broke its reader: {error}"))),
        Err(_) => Err(IpcError::Late(deadline_ms)),
    }
}
