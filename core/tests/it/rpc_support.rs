//! What the tests of the wire share: the original's documents, and raw sockets.

/// Whole conversations.
pub(crate) const CAPTURED: &str = include_str!("../vectors/captured.jsonl");

/// Single documents.
pub(crate) const DOCUMENTS: &str = include_str!("../vectors/documents.jsonl");

/// One document on the wire.
pub(crate) struct Vector {
    /// What it is.
    pub(crate) kind: String,
    /// Whether the client sent it.
    pub(crate) from_client: bool,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// One captured connection.
pub(crate) struct Conversation {
    /// Its number.
    pub(crate) name: String,
    /// What was said, in order.
    pub(crate) documents: Vec<Vector>,
}

fn vector(line: &str, kind: &str) -> (serde_json::Value, Vector) {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let digits: Vec<char> = value["hex"].as_str().unwrap().chars().collect();
    let bytes = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect();
    let document = Vector {
        kind: value[kind].as_str().unwrap().to_owned(),
        from_client: value["dir"] == "c>s",
        bytes,
    };
    (value, document)
}

/// The conversations of `lines`.
pub(crate) fn captured(lines: &str) -> Vec<Conversation> {
    let mut conversations: Vec<Conversation> = Vec::new();
    for line in lines.lines() {
        let (value, document) = vector(line, "document");
        let name = value["capture"].as_str().unwrap();
        match conversations.last_mut() {
            Some(last) if last.name == name => last.documents.push(document),
            _ => conversations.push(Conversation {
                name: name.to_owned(),
                documents: vec![document],
            }),
        }
    }
    conversations
}

/// The documents of `lines`.
pub(crate) fn documents(lines: &str) -> Vec<Vector> {
    lines.lines().map(|line| vector(line, "name").1).collect()
}
