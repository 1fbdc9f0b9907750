//! The catalogue of stable error codes.

use std::fmt;

/// The page that `kv explain CODE` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// One line, lower case.
    pub title: &'static str,
    /// What leads to it, and whether a write was applied.
    pub cause: &'static str,
    /// How to look.
    pub check: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// Declares the codes once: variant, number, gRPC code, exit code, page.
macro_rules! catalogue {
    ($($variant:ident = $number:literal, $grpc:ident, exit $exit:literal,
        $title:literal, cause $cause:literal, check $check:literal, fix $fix:literal;)+) => {
        /// A stable error code. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!("KV", stringify!($number), ": ", $title, ". ", $cause)] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];

            /// The number behind `KV`.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The gRPC status code that carries it.
            #[must_use]
            pub const fn grpc(self) -> tonic::Code {
                match self { $(Self::$variant => tonic::Code::$grpc,)+ }
            }

            /// The exit code of the command line. A write whose outcome is unknown exits 6
            /// whatever its code.
            #[must_use]
            pub const fn exit(self) -> u8 {
                match self { $(Self::$variant => $exit,)+ }
            }

            /// The page that explains it.
            #[must_use]
            pub const fn page(self) -> Page {
                match self { $(Self::$variant => Page {
                    title: $title, cause: $cause, check: $check, fix: $fix,
                },)+ }
            }
        }
    };
}

catalogue! {
    InvalidRequest = 1001, InvalidArgument, exit 8, "request refused as malformed",
        cause "A field is missing or contradicts another one. Nothing was applied.",
        check "Read the line `why`: it names the field.",
        fix "Correct the request.";
    KeyEmpty = 1002, InvalidArgument, exit 8, "empty key",
        cause "Every key has at least one byte. Nothing was applied.",
        check "Is a shell variable empty?",
        fix "Name a key.";
    KeyTooLarge = 1003, InvalidArgument, exit 8, "key too large",
        cause "A key holds at most 4 KiB. Nothing was applied.",
        check "Count the bytes of the key, not its characters.",
        fix "Shorten the key, or store the long part in the value.";
    ValueTooLarge = 1004, InvalidArgument, exit 8, "value too large",
        cause "A value holds at most 1 MiB. Nothing was applied.",
        check "Count the bytes of the value.",
        fix "Split the value over several keys, or keep it elsewhere and store its address.";
    TooManyOperations = 1005, InvalidArgument, exit 8, "too many operations in a transaction",
        cause "Compares and both branches together hold at most 128 operations. Nothing was applied.",
        check "Count the entries of `if`, `then` and `else`.",
        fix "Split the transaction.";
    RequestTooLarge = 1006, ResourceExhausted, exit 8, "request too large",
        cause "A request holds at most 1.5 MiB, encoded. Nothing was applied.",
        check "Add up the keys and values of the request.",
        fix "Split the request.";
    LevelNotOffered = 1007, InvalidArgument, exit 8, "read level not offered",
        cause "The keyspace's kind, or this version, does not offer the level that was asked for. The server never weakens a read silently.",
        check "docs/consistency.md lists the levels of each kind.",
        fix "Ask for another level with --consistency.";
    KeyspaceNotFound = 1008, NotFound, exit 3, "keyspace not found",
        cause "No keyspace has that name. Nothing was applied.",
        check "Is the name spelled right? The keyspace `default` always exists.",
        fix "Use an existing keyspace.";
    Unimplemented = 1009, Unimplemented, exit 1, "call not known to this server",
        cause "The server does not know the method. Nothing was applied.",
        check "kv version --json, and `kv cluster status` for the versions of the nodes.",
        fix "Use a client of the server's version.";
    KeyWrittenTwice = 1010, InvalidArgument, exit 8, "key written twice in one branch",
        cause "One branch of a transaction writes each key at most once. Nothing was applied.",
        check "Look for the same key, or a key inside a deleted range, in one branch.",
        fix "Keep the last write of each key.";
    RangeDeleteTooLarge = 1011, InvalidArgument, exit 8, "range delete too large",
        cause "One delete removes at most 10,000 keys. Nothing was applied.",
        check "kv ls PREFIX --count",
        fix "Delete by longer prefixes.";
    KeyspaceExists = 1012, AlreadyExists, exit 4, "keyspace exists",
        cause "A keyspace of that name exists, or is being removed. Nothing was applied.",
        check "kv keyspace ls",
        fix "Choose another name, or wait until the removal is finished.";
    KeyspaceNameInvalid = 1013, InvalidArgument, exit 8, "keyspace name refused",
        cause "A name has 1 to 128 bytes: letters, digits, `.`, `_`, `-`, and begins with a letter or digit. Nothing was applied.",
        check "Count the bytes of the name.",
        fix "Choose another name.";
    KeyspaceNotReady = 1014, Unavailable, exit 5, "keyspace not ready",
        cause "The keyspace is being created or removed, or its last change has not reached its group yet. Nothing was applied.",
        check "kv keyspace show NAME",
        fix "Repeat in a moment.";
    KeyspaceProtected = 1015, InvalidArgument, exit 8, "keyspace cannot be removed",
        cause "The keyspace `default` always exists. Nothing was applied.",
        check "kv keyspace ls",
        fix "Delete its keys instead: kv del --prefix ''.";
    KindNotOffered = 1016, InvalidArgument, exit 8, "kind of keyspace not offered",
        cause "This version does not know that kind. Nothing was applied.",
        check "kv version",
        fix "Create it with --kind linearizable or --kind eventual.";
    WrongNode = 1017, InvalidArgument, exit 8, "another node answered",
        cause "The call is for one node, and another one was reached. Nothing was done.",
        check "kv cluster members shows the client address of each node.",
        fix "Name the address of that node with --endpoints.";
    KeyspaceChanged = 1018, FailedPrecondition, exit 4, "keyspace was changed meanwhile",
        cause "The settings were worked out from others that are not in force any more. Nothing was applied.",
        check "kv keyspace show NAME",
        fix "Read the settings again and decide anew.";
    SettingNotOffered = 1019, InvalidArgument, exit 8, "setting not offered for the kind of keyspace",
        cause "A keyspace of kind `eventual` keeps no history, and this version bounds neither its keys nor its bytes; one of kind `linearizable` has no policy; no kind offers merge types. Nothing was applied.",
        check "kv keyspace show NAME",
        fix "Leave the setting out, or choose the other kind.";
    KeyNotFound = 1101, NotFound, exit 3, "key not found",
        cause "The key does not exist at the revision that was read.",
        check "kv ls PREFIX",
        fix "Use --missing-ok where absence is fine.";
    ConditionFailed = 1102, FailedPrecondition, exit 4, "condition failed",
        cause "The condition of the write did not hold. Nothing was applied.",
        check "kv get KEY --meta",
        fix "Read the key again and decide anew.";
    WriteAnswered = 1106, FailedPrecondition, exit 8, "write id was answered before",
        cause "The client said that it had seen the answer to this write id, then used the id again. Nothing was applied by this attempt; an earlier attempt may have been.",
        check "Do two clients share one client id?",
        fix "Mint a client id per client.";
    OutcomeForgotten = 1107, FailedPrecondition, exit 8, "outcome of the write is no longer kept",
        cause "The write id is older than the table of outcomes reaches. This attempt applied nothing; an earlier attempt may have.",
        check "Read the key.",
        fix "Decide from the value that is there now, then write under a new id.";
    NoQuorum = 1201, Unavailable, exit 5, "no quorum",
        cause "Fewer than a majority of the voters can be reached, so nothing can be agreed on.",
        check "kv cluster status",
        fix "Bring nodes back. Reads at level `eventual` go on meanwhile.";
    NoLeader = 1202, Unavailable, exit 5, "no leader",
        cause "The group has no leader at the moment, for example during an election. Nothing was applied.",
        check "kv cluster status",
        fix "Repeat; an election takes about a second.";
    LeadershipLost = 1203, Unavailable, exit 5, "leadership lost",
        cause "The node stopped being leader and the write was replaced in the log. Nothing was applied.",
        check "kv cluster status",
        fix "Repeat.";
    WriteTimedOut = 1204, DeadlineExceeded, exit 6, "write timed out",
        cause "The write was sent and not answered in time. It may have been applied, or may still be.",
        check "Read the key.",
        fix "Repeat with the same write id, as the library does, or read and decide.";
    ReadTimedOut = 1205, DeadlineExceeded, exit 5, "read timed out",
        cause "The read could not be confirmed in time.",
        check "kv cluster status",
        fix "Repeat, raise --timeout, or ask for a weaker level.";
    ForwardBroken = 1206, Unavailable, exit 6, "connection to the leader broke",
        cause "The write was handed to the leader, then the connection broke. It may have been applied.",
        check "Read the key.",
        fix "Repeat with the same write id, as the library does.";
    NotReady = 1207, Unavailable, exit 5, "node is not ready",
        cause "The node is starting, forming its cluster or stopping. Nothing was applied.",
        check "GET /readyz?verbose on the admin address.",
        fix "Use another node, or wait.";
    Repairing = 1208, Unavailable, exit 5, "node repairs its data",
        cause "A part of the node's log does not verify. It serves nothing and votes for nobody until it has fetched a whole state from the leader. Nothing was applied.",
        check "GET /readyz?verbose on the admin address names the file.",
        fix "Use another node; the repair runs by itself as long as the others have a leader.";
    MemberNotFound = 1211, NotFound, exit 3, "member not found",
        cause "No member has that name. Nothing was applied.",
        check "kv cluster members",
        fix "Name an existing member.";
    MemberExists = 1212, AlreadyExists, exit 4, "member exists",
        cause "A member of that name exists already. Nothing was applied.",
        check "kv cluster members",
        fix "Remove it first if it lost its data: kv cluster remove NAME --lose-unseen.";
    ChangeInProgress = 1213, FailedPrecondition, exit 4, "another membership change came first",
        cause "Members change one at a time: another change is not finished, or began while this one was on its way. Nothing was applied.",
        check "kv cluster members names the change and what it waits for.",
        fix "Look again and repeat it if it is still wanted, or cancel the addition of a node that never came: kv cluster remove NAME.";
    QuorumAtRisk = 1214, Unavailable, exit 5, "too few of the new voters are up",
        cause "No majority of the voters after the change was heard within the last election timeout: the cluster would stop. Nothing was applied.",
        check "kv cluster members",
        fix "Bring nodes back first, or change members in another order.";
    MemberNotCaughtUp = 1215, FailedPrecondition, exit 4, "learner has not caught up",
        cause "The member is not a learner that follows the leader closely. Nothing was applied.",
        check "kv cluster members shows how far behind it is.",
        fix "Wait until it has caught up.";
    MemberUnheard = 1216, FailedPrecondition, exit 4, "member may have what nobody else has",
        cause "The member is not heard. There are eventual keyspaces, of which it may have taken writes that it told nobody. Nothing was applied.",
        check "kv cluster remove NAME --lose-unseen --dry-run says when it was heard, and what is known of its writes.",
        fix "Start it and remove it then: it hands on what it has. If others hear it, ask one of them. If it never comes back: kv cluster remove NAME --lose-unseen.";
    Compacted = 1301, OutOfRange, exit 8, "revision compacted",
        cause "The revision is older than the history that is kept.",
        check "kv get KEY --meta shows the current revision.",
        fix "Read a newer revision.";
    FutureRevision = 1302, OutOfRange, exit 8, "revision in the future",
        cause "The keyspace has not reached the revision yet.",
        check "kv get KEY --meta shows the current revision.",
        fix "Read an existing revision.";
    CompactionAhead = 1303, OutOfRange, exit 8, "compaction beyond the present",
        cause "A keyspace can be compacted up to its current revision. Nothing was applied.",
        check "kv keyspace show NAME shows the current revision.",
        fix "Name an existing revision.";
    AckMissed = 1304, DeadlineExceeded, exit 10, "write is on fewer replicas than asked for",
        cause "The write is applied and durable at the replica that took it; not all that were asked for confirmed it in time. It spreads by itself.",
        check "The error names how many replicas have it; kv cluster status.",
        fix "Repeat with the same write id at the same node: it waits for the missing ones and does not write again.";
    VerbNotOffered = 1401, InvalidArgument, exit 8, "not offered by this kind of keyspace",
        cause "Transactions, conditions, history and revisions need one order of all writes; causal tokens, `ack` and deadlines need replicas that each take writes. Nothing was applied.",
        check "kv keyspace show NAME names the kind; docs/eventual.md lists what each kind offers.",
        fix "Use a keyspace of the other kind for this.";
    TokenInvalid = 1402, InvalidArgument, exit 8, "not a token for this key",
        cause "The causal token is forged, damaged, of another cluster or of another key. Nothing was applied.",
        check "Was it cut when it was copied? Was it read from this key?",
        fix "Read the key again and use the context of that read.";
    TokenExpired = 1403, FailedPrecondition, exit 4, "token is too old",
        cause "The key that the causal token was made with is no longer in use, or the data was restored since. Nothing was applied.",
        check "kv get KEY -o json",
        fix "Read the key again and use the context of that read.";
    TokenOtherKeyspace = 1404, InvalidArgument, exit 8, "token of another keyspace",
        cause "The causal token was read from another keyspace. Nothing was applied.",
        check "Which --keyspace was it read from?",
        fix "Use a token that was read from this keyspace.";
    TokenAhead = 1405, Unavailable, exit 5, "replica is behind the token",
        cause "The causal token names what this replica has not heard of yet. Nothing was applied.",
        check "kv cluster status",
        fix "Repeat in a moment, or ask another node.";
    SiblingsFull = 1406, ResourceExhausted, exit 8, "too many siblings",
        cause "The key has 32 values that do not know of each other, and the write would add one. Nothing was applied.",
        check "kv get KEY shows them.",
        fix "Read the key and write with the context of that read, which replaces all that was read.";
    ReplicasMissing = 1407, Unavailable, exit 5, "fewer replicas connected than asked for",
        cause "The node that was asked has no connection to so many replicas; or, at a read of level quorum, too few are left whose answers count: those that are recovering or damaged do not, nor those that follow another configuration of members or have more to say than a message holds. Or, for a backup, too few of those that have lost nothing could be asked for what they have of eventual keyspaces. Nothing was applied.",
        check "kv cluster status",
        fix "Write with --ack one, read with --consistency eventual, or bring nodes back.";
    Recovering = 1408, Unavailable, exit 5, "replica does not know enough yet",
        cause "The replica lost its data, or has not got the secrets of the cluster yet. It never answers from an empty store. Nothing was applied.",
        check "kv cluster status",
        fix "Ask another node.";
    WriteElsewhere = 1409, Unavailable, exit 6, "write was begun by another replica",
        cause "The write id was given to another start of this node, or to a data directory that it has no longer; it may have been applied there. This attempt applied nothing.",
        check "Read the key.",
        fix "Decide from the value that is there now, then write under a new id.";
    QueueFull = 1501, ResourceExhausted, exit 8, "node is overloaded",
        cause "The node's admission queue is full, or the leader's log or memory until an export is written. Nothing was applied.",
        check "Metrics kvstore_admission_queue_requests and kvstore_overloaded.",
        fix "Wait for the time the error names, then repeat; send less at once.";
    LogFull = 1502, ResourceExhausted, exit 8, "too much uncommitted data",
        cause "The leader holds 64 MiB that no majority has acknowledged yet. Nothing was applied.",
        check "kv cluster status: are followers slow?",
        fix "Wait for the time the error names, then repeat.";
    ReadOnly = 1503, ResourceExhausted, exit 8, "node is read-only: disk full",
        cause "The node cannot prepare its next log segment. Nothing was applied.",
        check "df on the data directory.",
        fix "Free space; the node recovers by itself.";
    KeyspaceFull = 1504, ResourceExhausted, exit 8, "keyspace is full",
        cause "The write would exceed the keyspace's limit of keys or bytes. Nothing was applied.",
        check "kv keyspace show NAME",
        fix "Delete keys, or raise the limit: kv keyspace set NAME --max-bytes N.";
    ExportFailed = 1505, Unavailable, exit 5, "export failed",
        cause "The node could not write an export, or one is being written already. Nothing was lost.",
        check "df on the data directory, and the node's log.",
        fix "Repeat in a moment, or ask another node.";
    TlsRejected = 1601, Unauthenticated, exit 7, "TLS handshake rejected",
        cause "One side rejected the other's certificate. Nothing was sent.",
        check "The error names the side, the certificate, its subject and its dates.",
        fix "Issue a certificate by the cluster's CA: kv cert issue client NAME --dir pki.";
    RoleRefused = 1602, PermissionDenied, exit 7, "certificate has the wrong role",
        cause "Client certificates speak on the client port, node certificates on the peer port. Nothing was applied.",
        check "kv cert ls --dir pki",
        fix "Use a certificate of the right role.";
    ConfigInvalid = 1701, InvalidArgument, exit 2, "configuration refused",
        cause "A key is unknown, missing, or contradicts another one.",
        check "The error names the file, line and key, or the flag or variable.",
        fix "Correct what `why` names.";
    KeyFileMode = 1702, InvalidArgument, exit 2, "private key readable by others",
        cause "A private key file must be readable by its owner alone.",
        check "ls -l on the file.",
        fix "chmod 600 FILE";
    CertificateUnusable = 1703, Unauthenticated, exit 7, "own certificate unusable",
        cause "The node's certificate is expired, not yet valid, does not match its key, or names another node.",
        check "The error names the file, the subject and the dates.",
        fix "Where it is right but over: move its two files away and issue it again, kv cert issue node NAME --host H --dir pki. Where it names another node or cluster: correct the configuration.";
    DirectoryLocked = 1704, FailedPrecondition, exit 1, "data directory in use",
        cause "Another process holds the lock of the data directory.",
        check "The error names its process id.",
        fix "Stop that process, or use another data_dir.";
    DataForeign = 1705, DataLoss, exit 9, "data of another cluster or format",
        cause "A file of the data directory belongs to another cluster or was written by a newer version.",
        check "The error names the file.",
        fix "Point data_dir at the right directory, or run the newer version.";
    DataDamaged = 1706, DataLoss, exit 9, "data damaged",
        cause "A synced part of the log does not verify. The node refuses to guess.",
        check "The error names file and offset.",
        fix "Keep the directory for inspection; replace the node while the others serve.";
    DataLost = 1707, DataLoss, exit 9, "data directory lost",
        cause "The directory is empty, but the cluster has formed with this node in it. A node that votes again without its memory loses acknowledged writes.",
        check "Is data_dir mounted?",
        fix "Bring the directory back; or `kv cluster remove NAME --lose-unseen`, `kv cluster add NAME=ADDR`, and start it with join.";
    Removed = 1708, DataLoss, exit 9, "node was removed from the cluster",
        cause "The cluster removed this node. Its id never comes back.",
        check "kv cluster members",
        fix "To use the machine again: empty data_dir, `kv cluster add NAME=ADDR`, start with join.";
    ExportInvalid = 1709, DataLoss, exit 9, "export refused",
        cause "The file does not verify, is of a newer format, or belongs to another cluster.",
        check "kvstore snapshot verify FILE",
        fix "Use another copy.";
    DirectoryUnusable = 1710, FailedPrecondition, exit 2, "data directory cannot be used",
        cause "The system does not let the process make, read or write the data directory.",
        check "ls -ld on the directory and those above it; the user that the process runs as; mount options.",
        fix "Give the directory to that user (chown, chmod 700), or set another data_dir.";
    CannotConnect = 1801, Unavailable, exit 5, "cannot connect",
        cause "No endpoint accepted a connection. Nothing was sent.",
        check "Does a node listen there? Ports 7611 (peers) and 7612 (admin) are no client ports. kv context show",
        fix "Start a node or correct --endpoints.";
    Transport = 1802, Unavailable, exit 6, "connection broke",
        cause "The connection broke after the request was sent. A write may have been applied.",
        check "Read the key.",
        fix "Repeat with the same write id, as the library does.";
    NotConfigured = 1803, InvalidArgument, exit 2, "no cluster chosen",
        cause "Neither a context nor --endpoints with --ca, --cert and --key says which cluster to talk to.",
        check "kv context ls",
        fix "kv context add NAME --endpoints HOST:PORT --ca FILE --cert FILE --key FILE; kvstore dev writes the context `dev` by itself.";
    SeveralValues = 1804, FailedPrecondition, exit 4, "key has several values",
        cause "Values of the key were written without knowing of each other, and one was asked for. The client says it, no node does.",
        check "kv get KEY -o json shows all of them, and the causal token that covers them.",
        fix "Merge them: write one value with --causal TOKEN. Or show the newest: kv get KEY --resolve lww.";
    Internal = 1901, Internal, exit 1, "internal error",
        cause "A bug in kvstore.",
        check "The server's log around the time of the request.",
        fix "Report it with the log.";
}

impl Code {
    /// Reads `KVnnnn`, upper or lower case, with or without the letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("KV").or_else(|| text.strip_prefix("kv")).unwrap_or(text);
        Self::from_number(digits.parse().ok()?)
    }

    /// The code with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KV{:04}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_round_trip() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{pair:?}");
        }
        for code in Code::ALL {
            assert_eq!(Code::parse(&code.to_string()), Some(code));
            assert_eq!(Code::parse(&code.number().to_string()), Some(code));
        }
        assert_eq!(Code::parse("KV0000"), None);
        assert_eq!(Code::parse("x"), None);
    }
}
