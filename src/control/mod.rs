//! Background tasks: the watcher.
