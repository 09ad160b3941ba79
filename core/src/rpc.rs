//! BSON RPC on TCP: frames, messages, connections, server.
