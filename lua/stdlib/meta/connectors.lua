---@meta
-- Where rows come from and go to, for editors and docs/reference/language.md. Never loaded. A test holds that what C knows of is here.

---@class weir.store
---@field endpoint? string another endpoint than the cloud's own
---@field account? string Azure; else the URL or AZURE_STORAGE_ACCOUNT_NAME
---@field account_key? weir.secret Azure, SharedKey
---@field sas? weir.secret Azure, a shared access signature
---@field tenant? string Azure, with client_id and client_secret: OAuth 2.0 client credentials
---@field client_id? string
---@field client_secret? weir.secret
---@field authority? string of other clouds
---@field managed_identity? boolean Azure, the machine's
---@field access_key_id? string S3, Signature Version 4
---@field secret_access_key? weir.secret
---@field session_token? weir.secret
---@field region? string
---@field path_style? boolean buckets in the path
---@field encryption? string S3, "aws:kms"
---@field encryption_key? string the key's id
---@field encryption_scope? string Azure, of customer-managed keys
---@field retry_for? weir.duration_text how long one request is tried again; "10m"
---@field ca_file? string a private authority's certificate

---@class weir.kafka_client
---@field brokers string "a:9092,b:9092", some of them
---@field tls? boolean
---@field ca? string a private authority's certificate, PEM
---@field certificate? string a client's, with key_file: mutual TLS
---@field key_file? string
---@field key_password? weir.secret
---@field sasl? "plain"|"scram-sha-256"|"scram-sha-512"|"oauthbearer"
---@field username? string
---@field password? weir.secret
---@field token_url? string of oauthbearer: OAuth 2.0 client credentials
---@field client_id? string
---@field client_secret? weir.secret
---@field scope? string
---@field options? table<string, any> any property of librdkafka that Weir's promise does not hang on

---@class weir.registry
---@field registry? string its address
---@field username? string
---@field password? weir.secret
---@field token? weir.secret
---@field ca_file? string

-- # Connectors

---@class weir.kafka_source
---@field start? "earliest"|"latest"|string where a partition begins that the ledger does not know: also a time, an offset; "earliest"
---@field offsets? table<string, integer> the same of single partitions, by "topic/partition"
---@field on_lost? "fail"|"earliest" the messages to go on from are gone; "fail"
---@field isolation? "read_committed"|"read_uncommitted" "read_committed"
---@field discover? weir.duration_text how often new topics and partitions are looked for; "10s"
---@field group? string the consumer group, in which the place is told
---@field member? string static membership
---@field keys? boolean adds the column _key
---@field headers? boolean adds the column _headers
---@field threads? integer that decode; one for four cores
---@field connect_timeout? weir.duration_text how long the start waits for brokers

---@class weir.kafka: weir.kafka_client, weir.kafka_source
---@field topic? weir.names
---@field pattern? string topics by an extended regular expression

---@class weir.kafka_sink: weir.kafka_client
---@field topic string {dataset} stands for the dataset's name
---@field create? { partitions: integer, replication?: integer } makes the topic where it is missing
---@field key? weir.names
---@field headers? weir.names columns that become headers
---@field timestamp? string the time a message carries
---@field format? "json"|"avro"|"raw" "json"
---@field key_format? "text"|"json"|"avro" "text"
---@field compression? "none"|"gzip"|"snappy"|"lz4"|"zstd"
---@field partitioner? string murmur2 of the key, as Java's
---@field delivery? "exactly_once"|"at_least_once" "exactly_once"
---@field registry? string
---@field registry_username? string
---@field registry_password? weir.secret
---@field registry_token? weir.secret
---@field registry_ca? string
---@field schema? string an .avsc; without it the schema follows from the columns
---@field subject? string
---@field subject_by? "topic"|"record"|"topic_record" "topic"
---@field record? string the record's name
---@field register? boolean false: it is registered already

---Messages of topics; as `into`, a topic.
---@param options weir.kafka|weir.kafka_sink
---@return weir.node
function kafka(options) end

---@class weir.webhook
---@field url weir.secret
---@field token? weir.secret sent as a bearer token
---@field ca? string PEM of the authorities to trust
---@field retry_for? weir.duration_text how long one message is tried; "1m"

---A POST of JSON a row, for people to see; as `into`, or a channel of `alerts`.
---@param options weir.webhook
---@return weir.node
function webhook(options) end

---@class weir.event_hubs: weir.kafka_source
---@field namespace string
---@field hub weir.names
---@field connection_string weir.secret
---@field ca? string
---@field options? table<string, any>

---Azure Event Hubs, through its Kafka endpoint.
---@param options weir.event_hubs
---@return weir.node
function event_hubs(options) end

---@class weir.files: weir.store
---@field path string a pattern, from the project's folder, or of objects of a store
---@field order? "name"|"time" "name"
---@field settle? weir.duration_text how long a cut last line may wait for its rest; "1s"
---@field partitions? "file"|"one" each file a partition with a time of its own; "one"
---@field open? integer how many of those at once; 16
---@field poll? weir.duration_text how often a store is listed; "5s"

---Lines or whole files, also .gz and .zst.
---@param options weir.files
---@return weir.node
function files(options) end

---@class weir.parquet: weir.store
---@field path string
---@field schema? string the columns, as an .avsc file
---@field order? "name"|"time"
---@field settle? weir.duration_text
---@field poll? weir.duration_text

---Parquet files, each once.
---@param options weir.parquet
---@return weir.node
function parquet(options) end

---@class weir.http
---@field path string
---@field max_body? string "1MB"
---@field bearer? weir.secret the tokens that may send
---@field signature? "github"|"shopify"|"custom" an HMAC over the body
---@field secret? weir.secret of the signature
---@field previous_secret? weir.secret also good
---@field signature_header? string of custom
---@field signature_prefix? string
---@field signature_algorithm? "sha256"|"sha1"|"sha512"
---@field signature_encoding? "hex"|"base64"
---@field rate? integer requests a second; more is 429
---@field burst? integer at once
---@field idempotency_header? string "Idempotency-Key"
---@field remember? weir.duration_text how long keys are; "24h"
---@field cloudevents? "envelope"|"data" "envelope"
---@field reply? boolean requests are commands, answered with what came of them
---@field reply_timeout? weir.duration_text
---@field replies? string how much room answers take that are kept; "64MB"
---@field max_lag? string what may wait to be read; "256MB"
---@field on_lost? "fail"|"continue" "fail"

---Requests, answered once they are kept.
---@param options weir.http
---@return weir.node
function http(options) end

---@class weir.generator
---@field events? "retail"|"nexmark" "retail"
---@field seed? integer
---@field count? integer without it: no end
---@field rate? number events a second; as fast as it goes
---@field start? string the time of the first
---@field per_second? number events of a second of event time
---@field defects? number the share of bad ones
---@field late_s? number how late some come, in seconds

---Events made up: the same for the same seed.
---@param options weir.generator
---@return weir.node
function generator(options) end

-- # Tables

---@class weir.delta: weir.store
---@field root? string of storage: the folder or URL of all tables
---@field mode? "append"|"merge" "append"; "merge" where rows change
---@field partition_by? any columns, date "column", hour "column"
---@field properties? table<string, string> of the table
---@field overwrite? string partitions that the first commit of the pipeline replaces
---@field compact? boolean put small files together while the pipeline runs; true
---@field vacuum? boolean delete files no version needs; true
---@field keep? weir.duration_text how long rows stay; for ever
---@field target_file_size? string "128MB"
---@field z_order_by? weir.names files that are put together hold narrow ranges of these
---@field layout? "direct_lake" large sorted row groups
---@field tier_to? string where old files go: a folder or a URL
---@field tier_after? weir.duration_text how old they are by then

---@class weir.delta_source: weir.store
---@field path string
---@field start? "snapshot"|"latest" "snapshot"
---@field from_version? integer
---@field skip_change_commits? boolean versions that delete or rewrite rows are passed over
---@field changes? boolean what becomes of rows, as a changelog
---@field key? weir.names of changes

---A Delta table: as storage the place of all of them, as `into` one, as a source one that others write.
---@param options weir.delta|weir.delta_source
---@return weir.node
function delta(options) end

-- # Decoders

---@class weir.json
---@field schema string the columns, as an .avsc file

---@param options weir.json
---@return weir.node
function json(options) end

---@class weir.avro: weir.registry
---@field schema? string the reader's schema; the newest of the subject
---@field subject? string the topic's name and -value

---The registry's wire format, object containers, or bare values.
---@param options weir.avro
---@return weir.node
function avro(options) end

---@class weir.csv
---@field schema string
---@field header? boolean the first line names the columns; true
---@field delimiter? string ","
---@field null? weir.names the texts that are null; ""

---@param options weir.csv
---@return weir.node
function csv(options) end

---@class weir.debezium: weir.registry
---@field key weir.names
---@field schema string
---@field decimals? "string"|"declared"

---Changes of a database's rows, as Debezium tells of them.
---@param options weir.debezium
---@return weir.node
function debezium(options) end

---@class weir.msgpack
---@field schema string
---@field frames? "joined"|"length" one value behind the other, or each behind its length; "joined"

---@param options weir.msgpack
---@return weir.node
function msgpack(options) end

---@class weir.raw
---@field frame? "line"|"file" "line"

---The bytes as they are, in the column `value`.
---@param options weir.raw
---@return weir.node
function raw(options) end

---@class weir.capture: weir.registry
---@field body? "json"|"avro"|"msgpack" "json"
---@field schema? string
---@field subject? string

---The events in the files of Event Hubs Capture.
---@param options weir.capture
---@return weir.node
function capture(options) end
