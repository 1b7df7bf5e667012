// Documents. Entra identities only; containers, partition keys, times to live and indexes as in
// shared/adapters/azure/cosmos_schema.py, which a test compares with this file.

param name string
param location string
param tags object
param databaseName string

@description('True: pay per request, up to 5,000 RU/s a container. False: autoscale, each container on its own.')
param serverless bool

@description('Autoscale ceiling of detections, in RU/s. The floor is a tenth of it.')
param detectionsMaxThroughput int

@description('Autoscale ceiling of each other container, in RU/s; 1000 is the least there is.')
param otherMaxThroughput int

param zoneRedundant bool

@description('True: only private endpoints reach the account.')
param privateNetwork bool

@description('IPv4 addresses or ranges that may reach the account without a private endpoint: operators.')
param allowedAddresses array

param detectionRetentionDays int

@description('True: a container for vector search. The account keeps the capability, the container its policies, for ever.')
param vectorSearch bool

@description('Lengths of the vectors: of each embedder that is used, its dimensions and one for the bias.')
param vectorLengths array

@description('Autoscale ceiling of vectors, in RU/s. A publication writes as fast as it lets it.')
param vectorsMaxThroughput int

var backupTier = serverless ? 'Continuous7Days' : 'Continuous30Days'
var daySeconds = 86400

// Only what queries filter or sort by is indexed: an index entry costs request units with every write.
var containers = [
  {
    name: 'people'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/id'
        ]
      }
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: []
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
  {
    name: 'templates'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/person_id'
        ]
      }
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: [
          {
            path: '/person_id/?'
          }
          {
            path: '/embedder_id/?'
          }
          {
            path: '/sort/?'
          }
        ]
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
  {
    name: 'detections'
    maxThroughput: detectionsMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/id'
        ]
      }
      defaultTtl: detectionRetentionDays * daySeconds
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: [
          {
            path: '/sort/?'
          }
          {
            path: '/person_id/?'
          }
          {
            path: '/site/?'
          }
          {
            path: '/camera/?'
          }
          {
            path: '/location/?'
          }
          {
            path: '/track/?'
          }
          {
            path: '/status/?'
          }
        ]
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: [
          [
            {
              path: '/person_id'
              order: 'ascending'
            }
            {
              path: '/sort'
              order: 'ascending'
            }
          ]
        ]
      }
    }
  }
  {
    name: 'models'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/id'
        ]
      }
      defaultTtl: -1
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: []
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
  {
    name: 'audit'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/day'
        ]
      }
      defaultTtl: 400 * daySeconds
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: [
          {
            path: '/sort/?'
          }
        ]
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
  {
    name: 'tokens'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/id'
        ]
      }
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: []
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
]

var serverlessCapability = serverless ? [
  {
    name: 'EnableServerless'
  }
] : []
var vectorCapability = vectorSearch ? [
  {
    name: 'EnableNoSQLVectorSearch'
  }
] : []

// One vector a person of a large model, beside the arrays that the app keeps (docs/adr/0021). A graph of its own for each
// model: every search names its partition. The vectors are in no ordinary index, as with all that is not included.
var vectorEmbeddings = [for size in vectorLengths: {
  path: '/vector${size}'
  dataType: 'float32'
  distanceFunction: 'dotproduct'
  dimensions: size
}]
var vectorIndexes = [for size in vectorLengths: {
  path: '/vector${size}'
  type: 'diskANN'
  vectorIndexShardKey: [
    '/model_id'
  ]
}]
var vectorContainer = {
  name: 'vectors'
  maxThroughput: vectorsMaxThroughput
  resource: {
    partitionKey: {
      kind: 'Hash'
      version: 2
      paths: [
        '/model_id'
      ]
    }
    defaultTtl: -1
    vectorEmbeddingPolicy: {
      vectorEmbeddings: vectorEmbeddings
    }
    indexingPolicy: {
      indexingMode: 'consistent'
      automatic: true
      includedPaths: [
        {
          path: '/model_id/?'
        }
      ]
      excludedPaths: [
        {
          path: '/*'
        }
      ]
      compositeIndexes: []
      vectorIndexes: vectorIndexes
    }
  }
}
var allContainers = vectorSearch ? concat(containers, [
  vectorContainer
]) : containers

resource account 'Microsoft.DocumentDB/databaseAccounts@2025-04-15' = {
  //checkov:skip=CKV_AZURE_101:disabled with privateNetwork, which the check cannot evaluate; without it the app has no fixed address, and keys are off
  //checkov:skip=CKV_AZURE_99:as above; every request needs an Entra identity with a role on this database
  name: name
  location: location
  tags: tags
  kind: 'GlobalDocumentDB'
  properties: {
    databaseAccountOfferType: 'Standard'
    capabilities: concat(serverlessCapability, vectorCapability)
    consistencyPolicy: {
      defaultConsistencyLevel: 'Session'
    }
    locations: [
      {
        locationName: location
        failoverPriority: 0
        isZoneRedundant: zoneRedundant
      }
    ]
    disableLocalAuth: true
    disableKeyBasedMetadataWriteAccess: true
    enableAutomaticFailover: false
    minimalTlsVersion: 'Tls12'
    publicNetworkAccess: privateNetwork && empty(allowedAddresses) ? 'Disabled' : 'Enabled'
    ipRules: [for address in (privateNetwork ? allowedAddresses : []): {
      ipAddressOrRange: address
    }]
    backupPolicy: {
      type: 'Continuous'
      continuousModeProperties: {
        tier: backupTier
      }
    }
  }
}

resource database 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2025-04-15' = {
  parent: account
  name: databaseName
  properties: {
    resource: {
      id: databaseName
    }
  }
}

// Not the version of the others: the first that knows vectorIndexShardKey.
resource container 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2025-10-15' = [for item in allContainers: {
  parent: database
  name: item.name
  properties: {
    resource: union({
      id: item.name
    }, item.resource)
    options: serverless ? {} : {
      autoscaleSettings: {
        maxThroughput: item.maxThroughput
      }
    }
  }
}]

output id string = account.id
output name string = account.name
output endpoint string = account.properties.documentEndpoint
output databaseName string = database.name
