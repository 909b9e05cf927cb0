//! Every way that a small task can go, checked against what the mesh promises.
//!
//! One task lives in a [`database`]; each of the store's statements is an atomic commit that moves it by
//! the real machines ([`statements`]). Around it is a [`world`] in which nothing is certain: workers die,
//! hang and answer late or twice, messages come twice, what was to be told is not, the database crashes
//! and forgets what it had not flushed, and operators step in. The [`life_cycle`] lists what may happen
//! next, [`effects`] says what comes of it, and the checker follows all of it, in every order. What must
//! hold in each state that can be reached stands in [`promises`].
//!
//! There is no time. Whatever waits for some (a back-off, the end of a session, the fallback interval of
//! a queue) may happen at any moment, so every delay is covered: of the time of a rate only is told that it
//! passes, for one step that has begun after the other. Nor are there hints: a hint only makes a
//! stage look at once for what it may look for anyway, so a service that dies between its commit and its
//! hint is one that looks later.

mod action;
mod database;
mod effects;
mod fault;
mod flaw;
mod graph;
mod holds;
mod life_cycle;
mod promises;
mod statements;
mod twins;
mod world;
