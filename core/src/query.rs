//! The query language: one parser for console, shell, commands and client library.
