//! The `AsyncAPI` 3.0 document of the messages in RabbitMQ, made from the topology and the envelope that are used.

use serde_json::{Map, Value, json};
use shared::{
    envelope::Envelope,
    event::{self, Event},
    kinds::KINDS,
    task::Lane,
    topology::{self, DeclaredQueue, Exchange, Topology},
};
use std::sync::LazyLock;
use utoipa::PartialSchema;

/// The document as JSON.
pub fn json() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}", document()));
    &TEXT
}

fn document() -> Value {
    let Topology { exchanges, queues } = Topology::warren();
    let mut channels = Map::new();
    for exchange in exchanges.iter().filter(|one| is_used(one)) {
        channels.insert(format!("exchange.{}", exchange.name), of_exchange(exchange));
    }
    for queue in &queues {
        channels.insert(format!("queue.{}", queue.name), of_queue(queue));
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Warren",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What Warren's services say to each other through RabbitMQ: which task is to be looked at, and for which attempt. No payload and no personal data; those stay in PostgreSQL. A message asks and never decides: one that is lost is made again, one that comes twice or late claims nothing. Messages are for looking; hand over work by the HTTP API.",
            "license": {"name": "MIT OR Apache-2.0"}
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations(&queues),
        "components": {
            "messages": {"task": message(), "event": event()},
            "schemas": {"Envelope": Envelope::schema(), "Event": Event::schema(), "Lane": Lane::schema()}
        }
    })
}

/// Others are declared for what is to come.
fn is_used(exchange: &Exchange) -> bool {
    exchange.name != topology::CONTROL
}

fn to(channel: &str) -> Value {
    // RFC 6901 has an escape for slashes and tildes alone, and names have neither.
    json!({"$ref": format!("#/channels/{channel}")})
}

fn of_exchange(exchange: &Exchange) -> Value {
    let message = if exchange.name == topology::EVENTS {
        "event"
    } else {
        "task"
    };
    let description = match exchange.name.as_str() {
        topology::TASKS => {
            "Tasks that are ready to run; the routing key is `<queue>.<lane>`, e.g. `mail.high`. Persistent, mandatory, confirmed."
        }
        topology::EVENTS => {
            "What has happened; the routing key is its name, e.g. `user.created`. Bind a queue of your own. Persistent, confirmed; at least once, in no certain order, to the queues that are bound at that moment."
        }
        topology::DEAD => "What failed for good, could not be read, or was delivered too often.",
        _ => "A delay before another attempt; the routing key is kept.",
    };
    json!({
        "address": exchange.name,
        "description": description,
        "messages": {message: {"$ref": format!("#/components/messages/{message}")}},
        "bindings": {"amqp": {
            "is": "routingKey",
            "exchange": {"name": exchange.name, "type": exchange.kind, "durable": true, "autoDelete": false},
            "bindingVersion": "0.3.0"
        }}
    })
}

fn of_queue(queue: &DeclaredQueue) -> Value {
    let arguments: Map<String, Value> = queue
        .arguments
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let bindings: Vec<Value> = queue
        .bindings
        .iter()
        .map(|(exchange, key)| json!({"exchange": exchange, "routing_key": key}))
        .collect();
    json!({
        "address": queue.name,
        "messages": {"task": {"$ref": "#/components/messages/task"}},
        "bindings": {"amqp": {
            "is": "queue",
            "queue": {"name": queue.name, "durable": true, "exclusive": false, "autoDelete": false},
            "bindingVersion": "0.3.0"
        }},
        "x-arguments": arguments,
        "x-bindings": bindings
    })
}

fn event() -> Value {
    json!({
        "name": "event",
        "title": "Something that has happened",
        "contentType": "application/json",
        "payload": {"$ref": "#/components/schemas/Event"},
        "bindings": {"amqp": {"messageType": "the event's name", "bindingVersion": "0.3.0"}},
        "x-properties": {
            "message_id": "the event's id; a repeat has the same",
            "correlation_id": "likewise"
        },
        "x-events": [event::USER_CREATED, event::USER_VERIFIED, event::USER_DELETED]
    })
}

fn operations(queues: &[DeclaredQueue]) -> Value {
    let mut all = Map::new();
    let says = |action: &str, channel: &str, summary: &str| json!({"action": action, "channel": to(channel), "summary": summary});
    all.insert(
        "offerTask".into(),
        says(
            "send",
            &format!("exchange.{}", topology::TASKS),
            "Either service offers an attempt that is ready",
        ),
    );
    all.insert(
        "buryTask".into(),
        says(
            "send",
            &format!("exchange.{}", topology::DEAD),
            "The mailer-service notes a task that failed for good",
        ),
    );
    all.insert(
        "tellEvent".into(),
        says(
            "send",
            &format!("exchange.{}", topology::EVENTS),
            "The api-service tells what has happened",
        ),
    );
    for queue in queues {
        let Some(lane) = queue.name.strip_prefix("warren.tasks.") else {
            continue;
        };
        let summary = format!(
            "The mailer-service takes attempts of {lane}, acknowledged when their outcome is on disk"
        );
        let channel = format!("queue.{}", queue.name);
        all.insert(format!("take.{lane}"), says("receive", &channel, &summary));
    }
    Value::Object(all)
}

fn message() -> Value {
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    json!({
        "name": "task",
        "title": "An attempt at a task",
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "required": ["attempt"],
            "properties": {
                "attempt": {"type": "integer", "minimum": 1},
                "traceparent": {"type": "string", "description": "W3C Trace Context of the request that handed the task over"},
                "x-delivery-count": {"type": "integer", "description": "By RabbitMQ: deliveries before this one"},
                "x-death": {"type": "array", "description": "By RabbitMQ: the delays and dead-letterings that it has been through"}
            }
        },
        "payload": {"$ref": "#/components/schemas/Envelope"},
        "bindings": {"amqp": {"messageType": "the kind", "bindingVersion": "0.3.0"}},
        "x-properties": {
            "delivery_mode": 2,
            "content_type": "application/json",
            "app_id": "warren",
            "message_id": "the task's id",
            "correlation_id": "the id of the outbox row",
            "type": "the kind",
            "timestamp": "when it was published, in seconds"
        },
        "x-kinds": kinds,
        "examples": [{
            "headers": {"attempt": 1},
            "payload": {"id": "01a202a1-8641-7634-8cc9-e166f26a2252", "kind": "email.send", "attempt": 1, "lane": "normal"}
        }]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` in the document.
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn its_example_is_an_envelope_and_its_schema_says_all_of_it() {
        let document = document();
        let example = &document["components"]["messages"]["task"]["examples"][0]["payload"];
        let envelope = Envelope::from_json(example.to_string().as_bytes()).unwrap();
        let fields = serde_json::to_value(&envelope).unwrap();
        let schema = &document["components"]["schemas"]["Envelope"];
        let mut required: Vec<_> = schema["required"].as_array().unwrap().iter().collect();
        required.sort_by_key(|name| name.as_str());
        let mut names: Vec<_> = fields.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(json!(required), json!(names));
        for name in names {
            assert!(schema["properties"][name].is_object(), "{name}");
        }
    }
}
